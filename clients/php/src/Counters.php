<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * A field with a counter for each key, such as the quantities of a cart. Additions to a key add up.
 */
final class Counters
{
    public function __construct(public readonly string $name)
    {
        Data::checkField($name);
    }

    public function get(Data $s, string|int $key): int
    {
        return $s->count("$this->name:$key");
    }

    public function add(Data $s, string|int $key, int $n = 1): void
    {
        $s->change('add', "$this->name:$key", (string) $n);
    }

    /**
     * Talks to the store: see Counter::addWithin(). Throws Problem::Limit, too, if it would add a
     * key, and there would be more than $entries keys. A key with a count of 0 is an entry, until
     * delete() removes it.
     */
    public function addWithin(Data $s, string|int $key, int $n, int $least, int $most, int $entries): int
    {
        return $s->addWithin("$this->name:$key", $n, $least, $most, $entries);
    }

    public function delete(Data $s, string|int $key): void
    {
        $s->change('unset', "$this->name:$key");
    }

    /**
     * @return \Generator<string, int> in the order of the keys, which are strings: see Map::all()
     */
    public function all(Data $s): \Generator
    {
        foreach (\array_keys($s->entries($this->name)) as $key) {
            yield (string) $key => $s->count("$this->name:$key");
        }
    }

    /** Removes all keys, also those that another request adds before the commit. */
    public function clear(Data $s): void
    {
        $s->change('unset-entries', $this->name);
    }
}
