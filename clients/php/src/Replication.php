<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Waits until replicas have what was written. A failover can undo a write that no replica has.
 *
 * @internal
 */
final class Replication
{
    /** @param int $timeout in milliseconds */
    public function __construct(
        private readonly Connection $connection,
        private readonly int $replicas,
        private readonly int $timeout,
    ) {
    }

    public function isRequired(): bool
    {
        return $this->replicas > 0;
    }

    /** WAIT counts the writes of its own connection. So there must be one just before. */
    public function wait(string $key): void
    {
        if ($this->replicas === 0) {
            return;
        }
        [$got] = $this->connection->send([[$key, ['WAIT', (string) $this->replicas, (string) $this->timeout]]]);
        if (!\is_int($got) || $got < $this->replicas) {
            $got = $got instanceof ReplyError ? $got->message : (string) \json_encode($got);
            throw new SessionException(
                Problem::UnknownOutcome, "the end is done, but not $this->replicas replicas acknowledged it in time: $got",
            );
        }
    }
}
