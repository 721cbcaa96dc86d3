<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Decides whether a call of the store that failed is tried again.
 *
 * @internal
 */
final class Retry
{
    public const TRANSIENT = '/\b(MOVED|ASK|TRYAGAIN|LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|NOREPLICAS)\b/';

    private int $tries = 0;
    private ?SessionException $unknown = null;

    /**
     * @param int $until when it gives up, by hrtime
     * @param bool $repeatable the call may be sent again after an outcome that is unknown
     * @param Problem|null $as the problem to report; null: that of the first try that may have run
     */
    public function __construct(
        private readonly int $until,
        private readonly bool $repeatable,
        private readonly ?Problem $as = null,
    ) {
    }

    /** Returns, after a while, if the call is to be tried again. Else it throws. */
    public function after(SessionException $e): void
    {
        $this->tries++;
        $mayHaveRun = $e->problem === Problem::UnknownOutcome;
        $this->unknown ??= $mayHaveRun ? $e : null;
        // A lost connection is tried once more. A slot that moves, or a failover, takes longer.
        $again = $mayHaveRun ? $this->repeatable && $this->tries === 1 : \preg_match(self::TRANSIENT, $e->getMessage()) === 1;
        if (!$again || \hrtime(true) >= $this->until) {
            throw $this->as === null ? ($this->unknown ?? $e) : new SessionException($this->as, $e->getMessage(), $e);
        }
        if (!$mayHaveRun) {
            \usleep(\random_int(5_000, 20_000) * \min($this->tries, 5));
        }
    }
}
