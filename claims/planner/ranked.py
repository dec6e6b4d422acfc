"""Claims about predicted steps of meshes."""


def what_megatron_reached_is_predicted_within_a_tenth(lab):
    """Operations a second of a GPU are predicted within 10% for all ten runs of the paper, 1.7 to 1008 billion parameters on 32 to 3072
    GPUs, with one share of the peak for all (Narayanan et al. 2021, table 1: 135 to 163 TFLOP/s)."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    from cluster import steps

    rows = [row for row in steps() if "ZeRO" not in row["what"]]
    return [lab.near(row["what"], row["predicted"], row["published"], margin=0.1 * row["published"], unit="TFLOP/s") for row in rows]


def rates_of_zero_alone_are_predicted_within_a_tenth(lab):
    """Operations a second of a GPU are predicted within 10% for ZeRO stage 3 without other axes (Narayanan et al. 2021, table 2: 44 to 144
    TFLOP/s)."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    from cluster import steps

    rows = [row for row in steps() if "ZeRO" in row["what"]]
    return [lab.near(row["what"], row["predicted"], row["published"], margin=0.1 * row["published"], unit="TFLOP/s") for row in rows]
