"""Claims about updates that host and device share."""


def no_bit_changes_and_most_bytes_lie_elsewhere(lab):
    """Pieces of which the device updates every second one end in the same bits as the plain driver's, with masters and states, 12 of 18
    bytes a parameter in bfloat16, on the host (Maurya et al. 2024: 2.5 times faster iterations, of which nothing is shown here)."""
    from bloomery.lab.meshed import moved

    told = [moved({"deep_optimizer_states": {"piece": 5000}}, seed) for seed in lab.seeds]
    return [
        lab.near("numbers that differ after 10 steps", [one["differ"] for one in told], [0] * len(told), margin=0, unit="numbers"),
        lab.near("bytes of a parameter that lie there", told[0]["places"].get("host", 0) / told[0]["numbers"], 12, margin=0, unit="bytes"),
    ]
