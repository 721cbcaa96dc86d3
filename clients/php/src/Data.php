<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The fields of a Session, or of the data of a user, as one request sees them: with the changes
 * that it made. Value, Map, Counter and Counters read and change it. Errors are SessionExceptions.
 */
abstract class Data
{
    /** @var SessionState|UserState */
    protected State $state;
    private ?Commit $commit = null;

    /** Not every request makes changes. */
    protected function pending(): Commit
    {
        return $this->commit ??= new Commit($this->state);
    }

    /** @internal */
    public static function checkField(string $name): void
    {
        if (\preg_match('/\A[A-Za-z0-9._-]{1,64}\z/', $name) !== 1) {
            throw new SessionException(Problem::Invalid, "\"$name\": a field's name has 1 to 64 of a-z A-Z 0-9 . _ -");
        }
    }

    // What the application calls

    /** The id of the user who is signed in, or whose data it is; null: nobody is signed in. */
    abstract public function user(): ?string;

    /**
     * The names of all fields and entries, as this request sees them.
     *
     * @return list<string>
     */
    public function names(): array
    {
        $this->state->load();
        return \array_map(\strval(...), \array_keys($this->state->view->fields()));
    }

    /** Unsets all fields. */
    public function clear(): void
    {
        $this->state->load();
        $this->state->mayChange(null);
        $this->state->view->change('clear', '');
    }

    /** Drops the changes that are not committed. */
    public function discard(): void
    {
        $this->state->discard();
    }

    /**
     * Stores the changes made so far, in one atomic step. Afterwards the view has other requests'
     * changes too. The middleware commits by itself before the response. What is changed after it,
     * as by a streamed body, needs a commit.
     *
     * Throws Ended, Unavailable, UnknownOutcome, TooLarge, Invalid, and for a session CrossOrigin
     * and HeaderSent. After an error the changes are dropped, and it takes no more.
     */
    public function commit(): void
    {
        $this->state->load();
        $this->pending()->flush(true);
    }

    /**
     * Reads the session, once. An unknown visitor gets an empty session, which is stored with the
     * first commit of a change. If the session ended, or got a new token, after the request began,
     * it is empty too, and takes no changes. The data of a user was read when it was opened.
     *
     * Throws Unavailable, also for a record that is malformed or of another version; Sealed if a
     * key is missing; Ambiguous.
     */
    public function load(): void
    {
        $this->state->load();
    }

    /** Commits, and does not read what is stored again. @internal */
    public function flush(): void
    {
        $this->state->load();
        $this->pending()->flush(false);
    }

    /** Reports whether the handler got this error, from a commit of its own. @internal */
    public function knowsOf(SessionException $e): bool
    {
        return $this->state->reported === $e;
    }

    // What the fields call

    /**
     * The stored text of a value, as this request sees it.
     *
     * @internal
     */
    public function stored(string $name): ?string
    {
        $this->state->load();
        return $this->state->view->get($name);
    }

    /** @internal */
    public function value(string $name): mixed
    {
        $text = $this->stored($name);
        return $text === null ? null : $this->state->decode($name, $text);
    }

    /** @internal */
    public function count(string $name): int
    {
        return Text::integer($this->stored($name) ?? '0')
            ?? throw new SessionException(Problem::Decode, "field \"$name\" is not a counter");
    }

    /**
     * @internal
     * @return array<array-key, string>
     */
    public function entries(string $field): array
    {
        $this->state->load();
        return $this->state->view->entries($field);
    }

    /** @internal */
    public function change(string $kind, string $name, string $a = ''): void
    {
        $this->state->load();
        $this->state->mayChange($name);
        $this->state->view->change($kind, $name, $a);
    }

    /** @internal */
    public function setValue(string $name, mixed $value): void
    {
        $this->state->load();
        $this->state->mayChange($name);
        $this->state->view->change('set', $name, $this->state->encode($name, $value));
    }

    /** @internal */
    public function take(string $name): mixed
    {
        $this->state->load();
        return $this->pending()->take($name);
    }

    /**
     * @internal
     * @param callable(mixed): mixed $function
     */
    public function update(string $name, callable $function, mixed $default): mixed
    {
        $this->state->load();
        return $this->pending()->update($name, $function, $default);
    }

    /**
     * @internal
     * @param int|null $entries the limit of the map, for an entry
     */
    public function addWithin(string $name, int $n, int $least, int $most, ?int $entries = null): int
    {
        $this->state->load();
        return $this->pending()->addWithin($name, $n, $least, $most, $entries);
    }

    /** @internal */
    public function setWithin(string $name, mixed $value, int $entries): void
    {
        $this->state->load();
        $this->pending()->setWithin($name, $value, $entries);
    }
}
