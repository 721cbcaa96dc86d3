<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * A field with many values under keys. Entries are written one by one, so requests that write
 * different entries do not conflict. A key has at most 256 bytes of UTF-8.
 */
final class Map
{
    public function __construct(public readonly string $name)
    {
        Data::checkField($name);
    }

    public function get(Data $s, string|int $key, mixed $default = null): mixed
    {
        return $this->isSet($s, $key) ? $s->value("$this->name:$key") : $default;
    }

    public function isSet(Data $s, string|int $key): bool
    {
        return $s->stored("$this->name:$key") !== null;
    }

    public function set(Data $s, string|int $key, mixed $value): void
    {
        $s->setValue("$this->name:$key", $value);
    }

    /**
     * Talks to the store. Sets an entry, unless the map would get a new entry and have more than
     * $entries of them. The store decides, so the limit holds for concurrent requests. An entry
     * that is there can always be set. Commits the other changes in the same step. New entries
     * among them count, too.
     *
     * Throws Problem::Limit if the map has too many entries: see Counter::addWithin().
     */
    public function setWithin(Data $s, string|int $key, mixed $value, int $entries): void
    {
        $s->setWithin("$this->name:$key", $value, $entries);
    }

    public function delete(Data $s, string|int $key): void
    {
        $s->change('unset', "$this->name:$key");
    }

    /**
     * All entries, in the order of their keys. The keys are strings: iterator_to_array() makes "1"
     * an integer, as all arrays of PHP do.
     *
     * @return \Generator<string, mixed>
     */
    public function all(Data $s): \Generator
    {
        foreach (\array_keys($s->entries($this->name)) as $key) {
            yield (string) $key => $s->value("$this->name:$key");
        }
    }

    /** Removes all entries, also those that another request adds before the commit. */
    public function clear(Data $s): void
    {
        $s->change('unset-entries', $this->name);
    }

    /** Talks to the store: see Value::take(). */
    public function take(Data $s, string|int $key): mixed
    {
        return $s->take("$this->name:$key");
    }

    /**
     * Talks to the store: see Value::update().
     *
     * @param callable(mixed): mixed $function
     */
    public function update(Data $s, string|int $key, callable $function, mixed $default = null): mixed
    {
        return $s->update("$this->name:$key", $function, $default);
    }
}
