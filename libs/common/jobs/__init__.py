"""The job runtime: PostgreSQL is the truth, Celery only rings the doorbell.

`transitions` changes states, `queue` rings, `keeper` publishes the outbox and takes jobs away from lost workers, `worker`
runs a job's `child` process and relays what it says.
"""
