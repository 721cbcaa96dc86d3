<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * A record as one request knows it: that of a session, or the data of a user. Commit stores its
 * changes, and Data shows it to the application.
 *
 * @internal
 */
abstract class State
{
    /** unread, anonymous (not stored), live, ended, moved or failed */
    public string $status = 'unread';
    /** Why it cannot be read, or why the last commit failed. */
    public ?SessionException $failure = null;
    public ?Record $record = null;
    /** What sealed values are bound to, and CSRF tokens are derived from; '': not chosen yet. */
    public string $id = '';

    public bool $touched = false;
    /** The response was made: a new cookie is no longer possible. */
    public bool $closed = false;
    /** The middleware commits, and not the handler. */
    public bool $finishing = false;
    /** The error that the handler got. */
    public ?SessionException $reported = null;

    public readonly View $view;

    private int $now = 0; // the server's time at $readAt
    private int $readAt = 0; // by hrtime

    public function __construct(public readonly Manager $manager)
    {
        $this->view = new View($manager->config->maxSize);
    }

    public static function ms(float $seconds): int
    {
        return (int) \round($seconds * 1000);
    }

    public function record(): Record
    {
        return $this->record ?? throw new SessionException(Problem::Ended);
    }

    /** The server's time now. */
    public function now(): int
    {
        return $this->now + \intdiv(\hrtime(true) - $this->readAt, 1_000_000);
    }

    public function setNow(int $now): void
    {
        $this->now = $now;
        $this->readAt = \hrtime(true);
    }

    /** Reads the record, once. After an error, it throws the same error each time. */
    abstract public function load(): void;

    /**
     * Makes the view exact, and reports whether the record is live. If not, the next commit finds
     * out why.
     */
    abstract public function refresh(): bool;

    // What Commit calls

    /** Throws if the record takes no changes. $name is that of the field or entry; null: any. */
    public function mayChange(?string $name): void
    {
        if ($this->failure !== null) {
            throw $this->failure;
        }
        if ($this->status !== 'live') {
            if ($this->status === 'ended' || $this->status === 'moved') {
                throw new SessionException(Problem::Ended);
            }
            if ($this->closed && $this->status === 'anonymous') {
                throw new SessionException(Problem::HeaderSent, 'the response was made already');
            }
        }
        if ($name !== null && ($why = Text::nameProblem($name)) !== null) {
            throw new SessionException(Problem::Invalid, "\"$name\": $why");
        }
    }

    /**
     * Stores the record for the first time. Throws if the request may not. Returns false if another
     * program was faster: then the view has the changes on top of what is stored, or of nothing.
     *
     * @param View $view what to store
     */
    abstract public function create(View $view): bool;

    /**
     * Sends operations to apply.lua, and returns its reply. Throws if the request may not.
     *
     * @param list<array{string, string, string, string}> $operations
     * @return list<mixed>
     */
    abstract public function apply(array $operations): array;

    /**
     * Notes that apply.lua found no record. Throws, or returns if the changes are to be sent again.
     *
     * @param string $reply "gone" or "moved"
     */
    abstract public function lose(string $reply): void;

    /** What errors call the record. */
    abstract public function name(): string;

    // Values

    public function secret(): string
    {
        return $this->id === '' ? $this->id = Text::encode(\random_bytes(16)) : $this->id;
    }

    /** Returns the text that the store gets for a value. */
    public function encode(string $name, mixed $value): string
    {
        $text = Json::encode($value, $name);
        return $this->manager->config->seal ? $this->manager->keys->seal($this->secret(), $name, $text) : $text;
    }

    /** Returns the value of a stored text. */
    public function decode(string $name, string $text): mixed
    {
        return Json::decode($this->manager->keys->open($this->id, $name, $text), $name);
    }

    /** Throws Problem::Sealed if a key is missing for a value of the record. */
    protected function checkKeys(Record $record): void
    {
        foreach ($record->fields as $name => $value) {
            $this->manager->keys->canOpen((string) $name, $value);
        }
    }

    // Changes of the state

    /**
     * Goes on with a record that create.lua has just stored.
     *
     * @param int $time the server's; 0: an earlier try has stored it
     */
    protected function created(Record $record, int $time): void
    {
        $this->record = $record;
        $this->status = 'live';
        $this->setNow($time);
        if ($time === 0) {
            $this->refresh();
        }
    }

    /** Drops the changes that are not committed. */
    public function discard(): void
    {
        $this->view->clearOperations();
        $this->view->rebase($this->record->fields ?? [], $this->record->size ?? 0);
    }

    /** A commit has failed: the record takes no more changes. */
    public function fail(SessionException $e): void
    {
        $this->discard();
        $this->failure ??= $e;
        $this->reported = $this->finishing ? $this->reported : $e;
    }
}
