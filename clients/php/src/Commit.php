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
    private const MAX_UPDATES = 100;

    public function __construct(private readonly State $state)
    {
    }

    /** Throws if the session takes no changes. $name is that of the field or entry; null: any. */
    public function mayChange(?string $name): void
    {
        $s = $this->state;
        if ($s->failure !== null) {
            throw $s->failure;
        }
        if ($s->status === 'ended' || $s->status === 'moved') {
            throw new SessionException(Problem::Ended);
        }
        if ($s->closed && $s->status === 'anonymous') {
            throw new SessionException(Problem::HeaderSent, 'the response was made already');
        }
        if ($name !== null && ($why = Text::nameProblem($name)) !== null) {
            throw new SessionException(Problem::Invalid, "\"$name\": $why");
        }
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
        $live = $s->status === 'live';
        [, , , $values] = $this->send();
        if ($exact && $live && $s->refresh()) {
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
        try {
            return $this->state->status === 'anonymous' ? $this->create($last) : $this->apply($renewal, $last);
        } catch (SessionException $e) {
            $this->state->fail($e);
            throw $e;
        }
    }

    // A session that is not stored yet

    /** @param list<array{string, string, string, string}> $last */
    private function create(array $last): array
    {
        $s = $this->state;
        $s->mayIssueToken();
        $before = \count($s->view->operations());
        $refusal = $s->view->refusal($last);
        if ($refusal !== null) {
            return [$refusal, null];
        }
        $values = [...\array_fill(0, $before, false), ...\array_map($this->applyToView(...), $last)];
        $config = $s->manager->config;
        $token = Token::new();
        $fields = $s->view->fields();
        $time = $s->manager->store->create(
            $token, $s->secret(), $fields,
            State::ms($config->idleTimeout), State::ms($config->lifetime), State::ms($config->firstUseTimeout),
        );
        $s->issue($token, false, $config->cookie->persistent ? (int) $config->lifetime : 0);
        $s->view->clearOperations();
        $s->record = $this->created($token, $time);
        $s->status = 'live';
        $s->setNow($time);
        $s->revoked = 0;
        if ($time === 0) { // an earlier try has stored it
            $s->refresh();
        }
        return ['ok', 1, 0, $values];
    }

    /**
     * Does what apply.lua would do, and returns the value of the operation.
     *
     * @param array{string, string, string, string} $operation
     */
    private function applyToView(array $operation): string|false
    {
        [$kind, $name, $a, $b] = $operation;
        $view = $this->state->view;
        $before = $view->get($name);
        match ($kind) {
            'take' => $view->change('unset', $name),
            'swap' => $view->change('set', $name, \substr($b, 1)),
            'limit' => null,
            default => $view->change($kind, $name, $a),
        };
        return match ($kind) {
            'take' => $before ?? false,
            'add' => $view->get($name) ?? false,
            default => false,
        };
    }

    /** The record of a session that create.lua has just stored. */
    private function created(Token $token, int $time): Record
    {
        $config = $this->state->manager->config;
        $record = new Record();
        $record->current = $token->verifierHash();
        $record->id = $this->state->id;
        $record->revision = 1;
        $record->created = $time;
        $record->idle = State::ms($config->idleTimeout);
        $record->deadline = $time + State::ms($config->lifetime);
        $record->seen = $time - $record->idle + State::ms($config->firstUseTimeout);
        $record->fields = $this->state->view->fields();
        $record->size = $this->state->view->size();
        return $record;
    }

    // A session that is stored

    /**
     * @param array{string, string, string, string}|null $renewal
     * @param list<array{string, string, string, string}> $last
     */
    private function apply(?array $renewal, array $last): array
    {
        $s = $this->state;
        $record = $s->record();
        $own = [...$s->view->operations(), ...$last];
        $reply = $s->manager->store->apply(
            $s->token(), $record, $s->issued || $s->renewed, $renewal === null ? $own : [$renewal, ...$own],
            $s->manager->config->maxSize, $s->revoked, $s->now(),
        );
        switch ($reply[0]) {
            case 'ok':
            case 'kept':
                $values = \array_slice($reply, $renewal === null ? 3 : 4);
                $this->applied($record, $own, $reply, $values);
                return [$reply[0], $record->revision, $renewal === null ? 0 : (int) $reply[3], $values];
            case 'gone':
            case 'moved':
                $s->leave($reply[0] === 'gone' ? 'ended' : 'moved');
                throw new SessionException(Problem::Ended);
            case 'refused':
                if ($reply[2] === 'conflict' || $reply[2] === 'entries') {
                    return [$reply[2], $reply[3] ?? null];
                }
                $name = $own[(int) $reply[1]][1] ?? '';
                $large = \in_array($reply[2], ['large', 'fields'], true);
                throw new SessionException($large ? Problem::TooLarge : Problem::Invalid, "field \"$name\": {$reply[2]}");
            default:
                throw Reply::failure($s->token()->handle(), $reply);
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
        $s->out->confirmed = \hrtime(true);
    }

    // Operations that the store decides

    public function take(string $name): mixed
    {
        $s = $this->state;
        $this->mayChange($name);
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
        $this->mayChange($name);
        $stored = $s->view->get($name);
        for ($try = 0; $try < self::MAX_UPDATES; $try++) {
            $next = $function($stored === null ? $default : $s->decode($name, $stored));
            $text = $s->encode($name, $next);
            $reply = $this->send(null, ['swap', $name, $stored === null ? '' : "=$stored", "=$text"]);
            if ($reply[0] !== 'conflict') {
                return $next;
            }
            $stored = \is_string($reply[1]) ? $reply[1] : null;
            if ($try > 0) {
                \usleep(\random_int(0, 1000 << \min($try, 5)));
            }
        }
        $e = new SessionException(Problem::Unavailable, "other processes keep changing field \"$name\"");
        $s->fail($e);
        throw $e;
    }

    /** @param int|null $entries the limit of the map, for an entry */
    public function addWithin(string $name, int $n, int $least, int $most, ?int $entries): int
    {
        $this->mayChange($name);
        return (int) $this->bounded(['add', $name, (string) $n, "$least $most"], $entries);
    }

    public function setWithin(string $name, mixed $value, int $entries): void
    {
        $this->mayChange($name);
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
