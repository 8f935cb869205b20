-- Listens on the channel on which operators tell workers that pgq_queues has changed, or that a worker has a request.
LISTEN pgq_control
