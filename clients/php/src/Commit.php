<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Stores the changes of a request, which the View keeps as operations. Each commit is one atomic
 * step. Operations that only the store can decide, such as take and update, come last in it.
 *
 * @internal
 */
final class Commit
{
    private const MAX_TRIES = 100;

    public function __construct(private readonly State $state)
    {
    }

    /** Commits what was changed. Only if $exact, the session is read again. */
    public function flush(bool $exact): void
    {
        $s = $this->state;
        if ($s->failure !== null) {
            throw $s->failure;
        }
        $operations = $s->view->operations();
        if ($operations === []) {
            return;
        }
        [, $revision, , $values] = $this->send();
        if ($exact && $revision > 1 && $s->refresh()) {
            // Others may have changed it since: what this request changed reads as it left it.
            $s->view->settle($operations, $values);
        }
    }

    /**
     * Commits the changes, after a renewal or rotation and before one more operation.
     *
     * @param array{string, string, string, string}|null $renewal
     * @param array{string, string, string, string} ...$last
     * @return list<mixed> the reply: its status, the revision, the generation, the values. If a
     *     last operation is refused because of what is stored: "conflict" or "entries", and the
     *     stored value
     */
    public function send(?array $renewal = null, array ...$last): array
    {
        $s = $this->state;
        try {
            for ($try = 0; $try < self::MAX_TRIES; $try++) {
                $reply = $s->status === 'anonymous' ? $this->create($last) : $this->apply($renewal, $last);
                if ($reply !== null) {
                    return $reply;
                }
                self::pause($try);
            }
            throw new SessionException(Problem::Unavailable, "{$s->name()} is created and deleted again and again");
        } catch (SessionException $e) {
            $s->fail($e);
            throw $e;
        }
    }

    /** Waits before another try, so that others get on. */
    public static function pause(int $try): void
    {
        if ($try > 0) {
            \usleep(\random_int(0, 1000 << \min($try, 5)));
        }
    }

    /**
     * Stores a record that is not stored yet.
     *
     * @param list<array{string, string, string, string}> $last
     * @return list<mixed>|null null: another program was faster
     */
    private function create(array $last): ?array
    {
        $s = $this->state;
        $before = \count($s->view->operations());
        $refusal = $s->view->refusal($last);
        if ($refusal !== null) {
            return $refusal;
        }
        $view = clone $s->view;
        $values = [...\array_fill(0, $before, false), ...\array_map($view->perform(...), $last)];
        if (!$s->create($view)) {
            return null;
        }
        $s->discard(); // the changes are in the record
        return ['ok', 1, 0, $values];
    }

    /**
     * Changes a record that is stored.
     *
     * @param array{string, string, string, string}|null $renewal
     * @param list<array{string, string, string, string}> $last
     * @return list<mixed>|null null: there is no such record any more, and it is to be created anew
     */
    private function apply(?array $renewal, array $last): ?array
    {
        $s = $this->state;
        $record = $s->record();
        $own = [...$s->view->operations(), ...$last];
        $reply = $s->apply($renewal === null ? $own : [$renewal, ...$own]);
        switch ($reply[0]) {
            case 'ok':
            case 'kept':
                $values = \array_slice($reply, $renewal === null ? 3 : 4);
                $this->applied($record, $own, $reply, $values);
                return [$reply[0], $record->revision, $renewal === null ? 0 : (int) $reply[3], $values];
            case 'gone':
            case 'moved':
                $s->lose($reply[0]);
                return null;
            case 'refused':
                if ($reply[2] === 'conflict' || $reply[2] === 'entries') {
                    return [$reply[2], $reply[3] ?? null];
                }
                $name = $own[(int) $reply[1]][1] ?? '';
                $large = \in_array($reply[2], ['large', 'fields'], true);
                throw new SessionException($large ? Problem::TooLarge : Problem::Invalid, "field \"$name\": {$reply[2]}");
            default:
                throw Reply::failure($s->name(), $reply);
        }
    }

    /**
     * @param list<array{string, string, string, string}> $operations
     * @param list<mixed> $reply
     * @param list<mixed> $values
     */
    private function applied(Record $record, array $operations, array $reply, array $values): void
    {
        $s = $this->state;
        $record->revision = (int) $reply[2];
        $s->view->settle($operations, $values);
        $s->view->clearOperations();
        $record->fields = $s->view->fields();
        $record->size = $s->view->size();
        if ((int) $reply[1] > 0) {
            $s->setNow((int) $reply[1]);
            $s->touched = true;
        }
    }

    // Operations that the store decides

    public function take(string $name): mixed
    {
        $s = $this->state;
        $s->mayChange($name);
        $text = $s->view->get($name);
        if ($text === null) {
            return null;
        }
        $s->manager->keys->canOpen($name, $text); // what cannot be read stays where it is
        [, , , $values] = $this->send(null, ['take', $name, '', '']);
        $taken = \end($values);
        return \is_string($taken) ? $s->decode($name, $taken) : null;
    }

    /** @param callable(mixed): mixed $function */
    public function update(string $name, callable $function, mixed $default): mixed
    {
        $s = $this->state;
        $s->mayChange($name);
        $stored = $s->view->get($name);
        for ($try = 0; $try < self::MAX_TRIES; $try++) {
            $next = $function($stored === null ? $default : $s->decode($name, $stored));
            $text = $s->encode($name, $next);
            $reply = $this->send(null, ['swap', $name, $stored === null ? '' : "=$stored", "=$text"]);
            if ($reply[0] !== 'conflict') {
                return $next;
            }
            $stored = \is_string($reply[1]) ? $reply[1] : null;
            self::pause($try);
        }
        $e = new SessionException(Problem::Unavailable, "other processes keep changing field \"$name\"");
        $s->fail($e);
        throw $e;
    }

    /** @param int|null $entries the limit of the map, for an entry */
    public function addWithin(string $name, int $n, int $least, int $most, ?int $entries): int
    {
        $this->state->mayChange($name);
        return (int) $this->bounded(['add', $name, (string) $n, "$least $most"], $entries);
    }

    public function setWithin(string $name, mixed $value, int $entries): void
    {
        $this->state->mayChange($name);
        $this->bounded(['set', $name, $this->state->encode($name, $value), ''], $entries);
    }

    /**
     * Commits one more operation, which may be refused because of a limit. Then the view is read
     * anew, and the other changes stay.
     *
     * @param array{string, string, string, string} $operation
     * @return mixed the value of the operation
     */
    private function bounded(array $operation, ?int $entries): mixed
    {
        [, $name] = $operation;
        if ($entries !== null && $entries < 0) {
            throw new SessionException(Problem::Invalid, "\"$name\": the number of entries is negative");
        }
        $at = \count($this->state->view->operations());
        $limit = $entries === null ? [] : [['limit', \explode(':', $name)[0], (string) $entries, '']];
        $reply = $this->send(null, $operation, ...$limit);
        if ($reply[0] === 'conflict' || $reply[0] === 'entries') {
            if ($this->state->status === 'live') {
                $this->state->refresh();
            }
            $why = $reply[0] === 'conflict' ? "with $operation[2] more the count would not be from $operation[3]" : "at most $entries entries are allowed";
            throw new SessionException(Problem::Limit, "\"$name\": $why");
        }
        return $reply[3][$at] ?? null;
    }
}
