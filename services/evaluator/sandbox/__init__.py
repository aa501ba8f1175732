"""Runs answers that nobody vouches for. The trusted side is `pool`; what runs inside the jail is `zygote` and `worker`."""
