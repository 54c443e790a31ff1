"""The benchmark: us, our peers, and the least that the kernel lets anyone do."""
