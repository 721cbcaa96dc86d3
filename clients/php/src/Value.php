<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * A field with one value: null, a bool, an int, a float, a string, or an array of them. The last
 * write wins. update() changes the value atomically, and take() returns it to one caller only.
 *
 * A JSON object is read as an array. An object that is empty, or whose keys are 0, 1, 2 and so on,
 * is read as an ArrayObject, so that it does not become a list when it is written back. To write an
 * empty object, set an ArrayObject or a stdClass.
 */
final class Value
{
    public function __construct(public readonly string $name)
    {
        Data::checkField($name);
    }

    /** Throws Problem::Decode or Problem::Sealed for a value that cannot be read. */
    public function get(Data $s, mixed $default = null): mixed
    {
        return $this->isSet($s) ? $s->value($this->name) : $default;
    }

    /** Reports whether it is set. A value may be null. */
    public function isSet(Data $s): bool
    {
        return $s->stored($this->name) !== null;
    }

    /** Throws Problem::Invalid for what JSON cannot hold. */
    public function set(Data $s, mixed $value): void
    {
        $s->setValue($this->name, $value);
    }

    public function delete(Data $s): void
    {
        $s->change('unset', $this->name);
    }

    /**
     * Talks to the store. Removes the value and returns it, or null if another request was faster.
     * Commits the other changes in the same step.
     */
    public function take(Data $s): mixed
    {
        return $s->take($this->name);
    }

    /**
     * Talks to the store. Replaces the value by what the function returns, atomically, and returns
     * it. The function gets the value, or $default. If another request changes the value first, it
     * is called again. Commits the other changes in the same step.
     *
     * @param callable(mixed): mixed $function
     */
    public function update(Data $s, callable $function, mixed $default = null): mixed
    {
        return $s->update($this->name, $function, $default);
    }
}
