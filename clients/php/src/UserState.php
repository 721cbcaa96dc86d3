<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The data of a user as one request knows it. It is live if it is stored, and anonymous if not:
 * then the first commit stores it.
 *
 * @internal
 */
final class UserState extends State
{
    private const LIFETIME = 3_153_600_000_000; // milliseconds: only the idle limit is meant to end it
    private const HOUR = 3_600_000;

    /** @param SessionState|null $through the session that opened the data; null: a program did */
    public function __construct(Manager $manager, public readonly string $owner, private readonly ?SessionState $through)
    {
        parent::__construct($manager);
        // Values are sealed for the owner: the data may expire and be created anew, with another id.
        $this->id = $owner;
    }

    // Reading

    public function load(): void
    {
        if ($this->status === 'unread') {
            $this->reread();
        }
    }

    /** Makes the view exact, under the changes that are not committed. */
    public function reread(): void
    {
        $this->become(...$this->manager->store->userData()->read($this->owner));
    }

    public function refresh(): bool
    {
        try {
            $this->reread();
            return $this->status === 'live';
        } catch (SessionException) {
            return false;
        }
    }

    /**
     * Puts the changes on top of what is stored.
     *
     * @param Record|null $record null: nothing is stored, or it has expired. The data begins anew
     * @param int $now the server's time now
     */
    private function become(?Record $record, int $now): void
    {
        if ($record !== null && $record->sealed) {
            $this->checkKeys($record);
        }
        $this->view->rebase($record->fields ?? [], $record->size ?? 0);
        $this->record = $record;
        $this->status = $record === null ? 'anonymous' : 'live';
        $this->setNow($now);
    }

    /** Goes on without the stored data, which has expired. */
    public function begin(): void
    {
        $this->become(null, $this->now());
    }

    // What Commit calls

    public function create(View $view): bool
    {
        $this->through?->admit($this->owner); // a request of an ended session does not change the data
        $idle = self::ms($this->manager->config->userDataTimeout);
        $limits = [$idle, self::LIFETIME, $idle];
        $id = Text::encode(\random_bytes(16)); // tells one creation from another
        $time = $this->manager->store->userData()->create($this->owner, $id, $view->fields(), ...$limits);
        if ($time === null) {
            $this->reread();
            return false;
        }
        $this->created(Record::created($this->owner, $id, $view, $time, ...$limits), $time);
        return true;
    }

    public function apply(array $operations): array
    {
        $this->through?->admit($this->owner);
        return $this->manager->store->userData()->apply(
            $this->owner, $this->record(), $operations, $this->manager->config->maxSize, $this->now(),
        );
    }

    public function lose(string $reply): void
    {
        if ($reply !== 'gone') {
            throw Reply::failure($this->name(), [$reply]);
        }
        $this->begin();
    }

    public function name(): string
    {
        return UserDataStore::nameOf($this->owner);
    }

    /** Reports whether the use is worth a write, which makes other programs drop their copies. */
    public function touchDue(): bool
    {
        $r = $this->record;
        return $r !== null && !$this->touched && $this->through?->passive !== true
            && $this->now() - $r->seen > \min($r->idle / 20, self::HOUR) && $r->touchDue($this->owner, $this->now());
    }
}
