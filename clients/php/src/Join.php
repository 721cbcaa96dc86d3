<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Moves Config::$userFields from a session to the data of its user. The store compares what was
 * read and sets the new values in one step, so nothing is lost or counted twice, whatever is
 * repeated.
 *
 * @internal
 */
final class Join
{
    private const MAX_TRIES = 20;

    public function __construct(private readonly SessionState $from, private readonly UserState $into)
    {
    }

    /** Throws TooLarge, Invalid, Decode or Sealed if the fields do not fit. They stay then. */
    public function run(): void
    {
        for ($try = 0; $try < self::MAX_TRIES; $try++) {
            $fields = $this->from->userFields();
            if ($fields === [] || $this->from->failure !== null || !$this->changedMeanwhile($fields)) {
                return;
            }
            Commit::pause($try);
        }
        throw new SessionException(Problem::Unavailable, 'other requests keep changing the user data');
    }

    /**
     * Makes one try. It returns true if the session or the data has changed since it was read. Both
     * are read again then. It returns false if the fields were moved, or a later request has to.
     *
     * @param array<array-key, string> $fields
     */
    private function changedMeanwhile(array $fields): bool
    {
        $config = $this->from->manager->config;
        if ($this->into->status === 'anonymous' && !$this->into->create(new View($config->maxSize))) {
            return true;
        }
        $put = $this->plan($fields);
        $take = \array_map(fn (array $p): array => [$p[0], $fields[$p[0]]], $put);
        try {
            $reply = $this->from->manager->store->userData()->join(
                $this->from->token(), $this->into->owner, $config->maxSize, $this->from->revoked, $take, $put,
            );
        } catch (SessionException $e) {
            if ($e->problem !== Problem::UnknownOutcome) {
                throw $e;
            }
            $reply = ['refused', '', 0, 'conflict']; // what was moved already is not moved again
        }
        switch ($reply[0]) {
            case 'ok':
                $this->moved($put, $reply);
                return false;
            case 'busy':
                return false;
            case 'none':
                $this->into->begin();
                return true;
            case 'gone':
            case 'moved':
                $this->from->lose($reply[0]);
                return false;
            case 'refused':
                if ($reply[3] !== 'conflict') {
                    $name = $put[(int) $reply[2]][0] ?? '';
                    throw $this->doesNotFit(Problem::TooLarge, "field \"$name\": {$reply[3]}");
                }
                if (!$this->from->refresh()) {
                    throw new SessionException(Problem::Unavailable, 'the session could not be read again to join the user data');
                }
                $this->into->reread();
                return true;
            default:
                throw Reply::failure("{$this->from->name()} and {$this->into->name()}", $reply);
        }
    }

    /**
     * Returns what to set in the data: counts are added, and other values replace those of the
     * user.
     *
     * @param array<array-key, string> $fields
     * @return list<array{string, string, string}> names, "=" and the old value or "", new values
     */
    private function plan(array $fields): array
    {
        $adds = $this->from->manager->config->userFieldKinds();
        $put = [];
        foreach ($fields as $name => $text) {
            $name = (string) $name;
            $old = $this->into->record->fields[$name] ?? null;
            try {
                $new = $adds[\explode(':', $name)[0]] ? self::sum($name, $old ?? '0', $text)
                    : $this->from->manager->keys->reseal($this->from->id, $this->into->id, $name, $text);
            } catch (SessionException $e) {
                throw $this->doesNotFit($e->problem, $e->getMessage(), $e);
            }
            $put[] = [$name, $old === null ? '' : "=$old", $new];
        }
        return $put;
    }

    private static function sum(string $name, string $a, string $b): string
    {
        [$x, $y] = [Text::integer($a), Text::integer($b)];
        if ($x === null || $y === null) {
            throw new SessionException(Problem::Decode, "field \"$name\" is not a counter");
        }
        $sum = $x + $y;
        return \is_int($sum) ? (string) $sum : throw new SessionException(Problem::Invalid, "field \"$name\": the sum overflows");
    }

    private function doesNotFit(Problem $problem, string $why, ?\Throwable $cause = null): SessionException
    {
        return new SessionException(
            $problem, "the fields of the session {$this->from->name()} do not fit into its user's data, and stay in the session. Make room, "
                . "or remove them from the session: Manager::userData() opens the data without them. $why", $cause,
        );
    }

    /**
     * @param list<array{string, string, string}> $put
     * @param list<mixed> $reply
     */
    private function moved(array $put, array $reply): void
    {
        [$session, $data] = [$this->from->record(), $this->into->record()];
        [$session->revision, $data->revision] = [(int) $reply[2], (int) $reply[3]];
        foreach ($put as [$name, , $new]) {
            unset($session->fields[$name]);
            $data->fields[$name] = $new;
        }
        foreach ([[$this->from, $session], [$this->into, $data]] as [$state, $record]) {
            $record->size = View::sizeOf($record->fields);
            $state->view->rebase($record->fields, $record->size);
            $state->setNow((int) $reply[1]);
            $state->touched = true;
        }
    }
}
