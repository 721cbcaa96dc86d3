<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/** A field with an integer of 64 bits. Concurrent additions add up: none is lost. */
final class Counter
{
    public function __construct(public readonly string $name)
    {
        Data::checkField($name);
    }

    /** The stored count and the request's own additions. It is exact after Data::commit(). */
    public function get(Data $s): int
    {
        return $s->count($this->name);
    }

    /** Adds n, which may be negative. Throws Problem::Invalid if the sum overflows. */
    public function add(Data $s, int $n = 1): void
    {
        $s->change('add', $this->name, (string) $n);
    }

    /**
     * Talks to the store. Adds n, unless the count would leave the range from $least to $most, and
     * returns the new count. The store decides, so the bounds hold for concurrent requests: use it
     * for stock, seats or attempts. Commits the other changes in the same step.
     *
     * Throws Problem::Limit if the count would leave the bounds. Then nothing was stored. The other
     * changes are still pending, and the session takes more of them. Throws what
     * Data::commit() throws.
     */
    public function addWithin(Data $s, int $n, int $least, int $most): int
    {
        return $s->addWithin($this->name, $n, $least, $most);
    }

    public function reset(Data $s): void
    {
        $s->change('unset', $this->name);
    }
}
