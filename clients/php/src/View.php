<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The values as a request sees them: the stored ones, and its own changes on top. It keeps the
 * changes as operations of apply.lua, for the commit. It knows no store.
 *
 * @internal
 */
final class View
{
    private const MAX_FIELDS = 1024;
    private const MAX_OPERATIONS = 4096;

    /** @var array<array-key, string> */
    private array $fields = [];
    private int $size = 0;

    /** @var list<array{string, string, string, string}> kind, name, a, b: not committed yet */
    private array $operations = [];

    public function __construct(private readonly int $maxSize)
    {
    }

    /**
     * Makes these the stored values. The changes that are not committed stay.
     *
     * @param array<array-key, string> $fields
     * @param int $size of the names and values
     */
    public function rebase(array $fields, int $size): void
    {
        $this->fields = $fields;
        $this->size = $size;
        foreach ($this->operations as $operation) {
            $this->apply($operation, false);
        }
    }

    /** @param array<array-key, string> $fields */
    public static function sizeOf(array $fields): int
    {
        $size = 0;
        foreach ($fields as $name => $value) {
            $size += \strlen((string) $name) + \strlen($value);
        }
        return $size;
    }

    public function get(string $name): ?string
    {
        return $this->fields[$name] ?? null;
    }

    /** @return array<array-key, string> */
    public function fields(): array
    {
        return $this->fields;
    }

    public function size(): int
    {
        return $this->size;
    }

    /** @return array<array-key, string> the entries of a map, by key, in the order of the keys */
    public function entries(string $field): array
    {
        $entries = [];
        foreach ($this->fields as $name => $value) {
            if (\str_starts_with((string) $name, "$field:")) {
                $entries[\substr((string) $name, \strlen($field) + 1)] = $value;
            }
        }
        \ksort($entries, SORT_STRING);
        return $entries;
    }

    /** @return list<array{string, string, string, string}> */
    public function operations(): array
    {
        return $this->operations;
    }

    /** Forgets the changes: they are committed, or given up. */
    public function clearOperations(): void
    {
        $this->operations = [];
    }

    /** Makes a change and keeps it for the commit. */
    public function change(string $kind, string $name, string $a = ''): void
    {
        $operation = [$kind, $name, $a, ''];
        if (\count($this->operations) >= self::MAX_OPERATIONS) {
            throw new SessionException(Problem::TooLarge, 'a commit has at most ' . self::MAX_OPERATIONS . ' operations: commit more often');
        }
        $this->apply($operation, true);
        $last = \end($this->operations);
        if ($last !== false && $last[1] === $name && \in_array($last[0], ['set', 'unset', 'add'], true)) {
            $sum = $kind === 'add' && $last[0] === 'add' ? (int) $last[2] + (int) $a : null;
            if ($kind === 'set' || $kind === 'unset' || \is_int($sum)) {
                // One operation does for both.
                \array_pop($this->operations);
                $operation[2] = \is_int($sum) ? (string) $sum : $a;
            }
        }
        $this->operations[] = $operation;
    }

    /**
     * Does what apply.lua would do, and returns the value of the operation.
     *
     * @param array{string, string, string, string} $operation
     */
    public function perform(array $operation): string|false
    {
        [$kind, $name, $a, $b] = $operation;
        $before = $this->get($name);
        match ($kind) {
            'take' => $this->change('unset', $name),
            'swap' => $this->change('set', $name, \substr($b, 1)),
            'limit' => null,
            default => $this->change($kind, $name, $a),
        };
        return match ($kind) {
            'take' => $before ?? false,
            'add' => $this->get($name) ?? false,
            default => false,
        };
    }

    /**
     * Says how apply.lua would refuse operations on a record that is not stored yet.
     *
     * @param list<array{string, string, string, string}> $operations
     * @return array{string, ?string}|null "conflict" or "entries", and the present value; null: it
     *     would not refuse them
     */
    public function refusal(array $operations): ?array
    {
        $added = 0;
        foreach ($operations as [$kind, $name, $a, $b]) {
            $present = $this->get($name);
            if ($kind === 'add') {
                [$least, $most] = \explode(' ', $b);
                $count = Text::integer($present ?? '0');
                $sum = $count === null ? null : $count + (int) $a;
                // A count that is out of the range may come closer.
                $under = $sum !== null && $sum < (int) $least && ($present === null || (int) $a <= 0);
                $over = $sum !== null && $sum > (int) $most && ($present === null || (int) $a >= 0);
                if ($under || $over || \is_float($sum)) {
                    return ['conflict', $present];
                }
            }
            if ($kind === 'swap' && $a !== ($present === null ? '' : "=$present")) {
                return ['conflict', $present];
            }
            if ($kind === 'limit' && \count($this->entries($name)) + $added > (int) $a) {
                return ['entries', null];
            }
            $added += $present === null ? 1 : 0;
        }
        return null;
    }

    /**
     * Makes the view what the script has replied.
     *
     * @param list<array{string, string, string, string}> $operations
     * @param list<mixed> $values
     */
    public function settle(array $operations, array $values): void
    {
        foreach ($operations as $i => [$kind, $name, $a, $b]) {
            match ($kind) {
                'add' => \is_string($values[$i] ?? null) ? $this->put($name, $values[$i], false) : null,
                'take' => $this->remove($name),
                'swap' => $b === '' ? $this->remove($name) : $this->put($name, \substr($b, 1), false),
                default => $this->apply([$kind, $name, $a, $b], false),
            };
        }
    }

    /** @param array{string, string, string, string} $operation */
    private function apply(array $operation, bool $check): void
    {
        [$kind, $name, $a] = $operation;
        switch ($kind) {
            case 'set':
                $this->put($name, $a, $check);
                break;
            case 'unset':
            case 'take':
                $this->remove($name);
                break;
            case 'add':
                $n = Text::integer($this->fields[$name] ?? '0');
                $sum = $n === null ? null : $n + (int) $a;
                if (\is_int($sum)) {
                    $this->put($name, (string) $sum, $check);
                } elseif ($check) {
                    throw new SessionException(Problem::Invalid, "field \"$name\": " . ($n === null ? 'it is no counter' : 'the sum overflows'));
                }
                break;
            case 'unset-entries':
                foreach (\array_keys($this->entries($name)) as $key) {
                    $this->remove("$name:$key");
                }
                break;
            case 'clear':
                $this->fields = [];
                $this->size = 0;
                break;
        }
    }

    private function put(string $name, string $value, bool $check): void
    {
        $old = $this->fields[$name] ?? null;
        $size = $this->size + \strlen($value) - ($old === null ? -\strlen($name) : \strlen($old));
        if ($check && $old === null && \count($this->fields) >= self::MAX_FIELDS) {
            throw new SessionException(Problem::TooLarge, 'at most ' . self::MAX_FIELDS . ' fields and entries are allowed');
        }
        if ($check && $size > $this->maxSize && $size > $this->size) {
            throw new SessionException(Problem::TooLarge, "field \"$name\": $size bytes of $this->maxSize");
        }
        $this->fields[$name] = $value;
        $this->size = $size;
    }

    private function remove(string $name): void
    {
        if (isset($this->fields[$name])) {
            $this->size -= \strlen($name) + \strlen($this->fields[$name]);
            unset($this->fields[$name]);
        }
    }
}
