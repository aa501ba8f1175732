"""The job runtime: PostgreSQL is the truth, Celery only rings the doorbell.

`transitions` changes states; `scheduling` says which job is next; `queue` rings; `keeper` publishes the outbox and takes
jobs away from lost workers. In a worker process, `worker` hears the doorbell, `runner` claims jobs and writes under their
fence, `attempt` follows one `process` within its `limits`, and `child` is the other end of the pipe. `patience` waits out a
PostgreSQL that is away, `failures` classifies, `shards` lets several workers share a job (`sharing`
says what a child hears of them, `helping` is the worker that does another one's), `pipelines` chains jobs.
"""
