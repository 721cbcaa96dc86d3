<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/** A field with an integer of 64 bits. Concurrent additions add up: none is lost. */
final class Counter
{
    public function __construct(public readonly string $name)
    {
        Session::checkField($name);
    }

    /** The stored count and the request's own additions. It is exact after Session::commit(). */
    public function get(Session $s): int
    {
        return $s->count($this->name);
    }

    /** Adds n, which may be negative. Throws Problem::Invalid if the sum overflows. */
    public function add(Session $s, int $n = 1): void
    {
        $s->change('add', $this->name, (string) $n);
    }

    public function reset(Session $s): void
    {
        $s->change('unset', $this->name);
    }
}
