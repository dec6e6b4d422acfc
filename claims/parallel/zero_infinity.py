"""Claims about masters and states that lie on a disk."""


def no_bit_changes_and_most_bytes_lie_elsewhere(lab):
    """Masters and states on a disk end in the same bits as the plain driver's, and of 18 bytes a parameter in bfloat16 12 are there
    (Rajbhandari et al. 2021, section 3: 12 of 16 bytes are optimizer states, gradients in 2)."""
    from bloomery.lab.meshed import moved

    told = [moved("zero_infinity", seed) for seed in lab.seeds]
    return [
        lab.near("numbers that differ after 10 steps", [one["differ"] for one in told], [0] * len(told), margin=0, unit="numbers"),
        lab.near("bytes of a parameter that lie there", told[0]["places"].get("disk", 0) / told[0]["numbers"], 12, margin=0, unit="bytes"),
    ]
