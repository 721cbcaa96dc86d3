<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The steps of a sign-in: see "Signing in" in format/README.md.
 *
 * @internal
 */
final class SignIn
{
    private const DAY = 86_400_000;
    private const UNCONFIRMED = 60_000;

    public function __construct(
        private readonly Store $store,
        private readonly Connection $connection,
        private readonly Keyspace $keys,
        private readonly UserSessions $users,
    ) {
    }

    /**
     * Signs a user in. All steps are made before it returns.
     *
     * @param array{owner: string, id: string, info: string, level: int, persistent: bool, idle:
     *     int, lifetime: int, max: int, refuse: bool, ago: int} $spec
     * @param \Closure(): int $age how long ago the authentication began, in milliseconds
     * @param \Closure(?Record): array<array-key, string> $fields of the new session, from the old
     *     one
     * @return array{Record, int, int, bool} the new session, the server's time, when everybody was
     *     revoked, and whether the times in the record are exact
     */
    public function run(Token $token, array $spec, ?Token $old, \Closure $age, \Closure $fields): array
    {
        [$everybody, $now] = $this->store->everybody();
        $began = $now - $age();
        if ($began <= $everybody || $now - $began > self::DAY) {
            throw new SessionException(Problem::Revoked, 'everybody was signed out after the authentication began');
        }
        $from = $old === null ? null : $this->leave($old, $token, $everybody);
        try {
            $values = $fields($from);
            $created = $this->storeSignIn($token, $spec, $from === null ? null : $old, $from, $began, $everybody, $values);
            [$everybody, $now] = $this->repeatIfUnknown(fn (): array => $this->store->everybody());
            if ($began <= $everybody) {
                $this->users->endNamed($spec['owner'], [$token->handle()]);
                throw new SessionException(Problem::Revoked, 'everybody was signed out during the sign-in');
            }
        } catch (\Throwable $e) {
            if ($from !== null && !($e instanceof SessionException && $e->problem === Problem::UnknownOutcome)) {
                $this->stay($old, $token);
            }
            throw $e;
        }
        $confirmed = $this->finishSignIn($token, $spec, $old, $from, $everybody);
        $record = self::signedIn($token, $spec, $values, $created ?: $now);
        if ($confirmed > 0) {
            $record->seen = $now = $confirmed;
            $record->revision = 2;
        } elseif (self::needsConfirmation($spec, $from)) {
            $record->seen += self::UNCONFIRMED - $spec['idle'];
        }
        return [$record, $now, $everybody, $created > 0];
    }

    /**
     * Returns the record of a sign-in, as signin.lua stores it. It is not read again: another
     * sign-in may end it at once.
     *
     * @param array{owner: string, id: string, info: string, level: int, persistent: bool, idle:
     *     int, lifetime: int, max: int, refuse: bool, ago: int} $spec
     * @param array<array-key, string> $values
     */
    private static function signedIn(Token $token, array $spec, array $values, int $created): Record
    {
        $record = new Record();
        $record->current = $token->verifierHash();
        $record->revision = 1;
        $record->size = View::sizeOf($values);
        $record->fields = $values;
        $record->id = $spec['id'];
        $record->created = $record->seen = $created;
        $record->deadline = $created + $spec['lifetime'];
        $record->idle = $spec['idle'];
        $record->owner = $spec['owner'];
        $record->authenticated = \max(0, $created - $spec['ago']);
        $record->level = $spec['level'];
        $record->persistent = $spec['persistent'];
        $record->info = $spec['info'];
        return $record;
    }

    /**
     * After the new session is stored, a failure to go on leaves the outcome unknown.
     *
     * @template T
     * @param \Closure(): T $step
     * @return T
     */
    private function repeatIfUnknown(\Closure $step): mixed
    {
        try {
            return $step();
        } catch (SessionException $e) {
            throw new SessionException(Problem::UnknownOutcome, "the sign-in was not confirmed: {$e->getMessage()}", $e);
        }
    }

    private function leave(Token $old, Token $new, int $everybody): ?Record
    {
        $key = $this->keys->session($old->handle());
        $keys = [$key, $this->keys->revocations(\substr($old->handle(), 0, 4))];
        $arguments = ['leave', \substr($new->handle(), 5), $old->verifierHash(), (string) $everybody];
        $reply = $this->connection->script('move', $keys, $arguments, true);
        if ($reply[0] === 'gone' || $reply[0] === 'moved') {
            return null;
        }
        if ($reply[0] !== 'ok') {
            throw Reply::failure($old->handle(), $reply);
        }
        try {
            return Record::decode(Connection::pairs($reply[2]) ?? []);
        } catch (FormatException $e) {
            throw Reply::malformed($old->handle(), $e);
        }
    }

    private function stay(Token $old, Token $new): void
    {
        try {
            $this->connection->script('move', [$this->keys->session($old->handle())], ['stay', \substr($new->handle(), 5)], true);
        } catch (SessionException) { // it accepts changes again after ten seconds
        }
    }

    /** @param array{max: int, idle: int} $spec */
    private static function needsConfirmation(array $spec, ?Record $from): bool
    {
        return ($from !== null || $spec['max'] > 0) && $spec['idle'] - self::UNCONFIRMED > \min($spec['idle'] / 20, 60000);
    }

    /**
     * @param array{owner: string, id: string, info: string, level: int, persistent: bool, idle:
     *     int, lifetime: int, max: int, refuse: bool, ago: int} $spec
     * @param array<array-key, string> $values
     * @return int when the session was created; 0: an earlier try has stored it
     */
    private function storeSignIn(
        Token $token, array $spec, ?Token $old, ?Record $from, int $began, int $everybody, array $values,
    ): int {
        $owner = $spec['owner'];
        $oldName = $from !== null && $from->owner === $owner ? \substr((string) $old?->handle(), 5) : '';
        $user = Text::hex($spec['level'], 2) . ($spec['persistent'] ? '1' : '0') . Text::hex(\strlen($spec['info']), 4);
        $until = \hrtime(true) + 2_000_000_000;
        while (true) {
            [$names, $version] = $this->others($spec, $oldName);
            $keys = [
                $this->keys->session($token->handle()), $this->keys->index($owner), $this->keys->revocations(Keyspace::bucketOf($owner)),
                ...\array_map(fn (string $name): string => $this->keys->session(Keyspace::bucketOf($owner) . "-$name"), $names),
            ];
            $first = self::needsConfirmation($spec, $from) ? self::UNCONFIRMED : $spec['idle'];
            $reply = $this->connection->script('signin', $keys, [
                $spec['id'], $token->verifierHash(), (string) View::sizeOf($values), (string) $spec['idle'], (string) $spec['lifetime'],
                (string) $first, $version, (string) $began, (string) $spec['ago'], (string) $spec['max'], $spec['refuse'] ? '1' : '0',
                (string) $everybody, $oldName, $user, ...Record::infoArguments($spec['info']), ...Record::fieldArguments($values),
            ], true);
            if ($reply[0] !== 'changed' || \hrtime(true) > $until) {
                break;
            }
        }
        return match ($reply[0]) {
            'ok' => (int) $reply[1],
            'again' => 0,
            'exists', 'changed' => throw new SessionException(Problem::Unavailable, 'other sign-ins of the user are faster'),
            'revoked' => throw new SessionException(Problem::Revoked, 'the user was signed out after the authentication began'),
            'full' => throw new SessionException(Problem::TooMany, "at most {$spec['max']} sessions"),
            default => throw Reply::failure("user $owner", $reply),
        };
    }

    /**
     * Returns the names in the user's index that the script gets, the oldest first, and the version
     * of the index. Without a limit, one sign-in of eight checks some random entries.
     *
     * @param array{owner: string, max: int, refuse: bool} $spec
     * @return array{list<string>, string}
     */
    private function others(array $spec, string $oldName): array
    {
        $owner = $spec['owner'];
        if ($spec['max'] === 0) {
            $index = $this->keys->index($owner);
            $entries = \random_int(0, 7) > 0 ? [] : $this->users->scores(['ZRANDMEMBER', $index, '20', 'WITHSCORES']);
            unset($entries['@rev']);
            return [self::names($entries, $oldName), ''];
        }
        [$entries, $version] = $this->users->index($owner);
        if (\count($entries) > UserSessions::BATCH) {
            // More than the script takes: the sessions over the limit end before it runs.
            $this->users->cleanIndex($owner, \array_map(\strval(...), \array_keys($entries)));
            [$entries] = $this->users->index($owner);
            unset($entries[$oldName]);
            $extra = \array_slice(self::names($entries, ''), 0, \max(0, \count($entries) - $spec['max']));
            if ($extra !== [] && $spec['refuse']) {
                throw new SessionException(Problem::TooMany, "at most {$spec['max']} sessions");
            }
            $handles = \array_map(fn (string $name): string => Keyspace::bucketOf($owner) . "-$name", $extra);
            $this->users->endNamed($owner, $handles);
            [$entries, $version] = $this->users->index($owner);
        }
        return [self::names($entries, $oldName), $version];
    }

    /**
     * @param array<array-key, int> $entries
     * @return list<string> the names, the oldest first
     */
    private static function names(array $entries, string $add): array
    {
        \asort($entries);
        $names = \array_map(\strval(...), \array_keys($entries));
        return $add === '' || \in_array($add, $names, true) ? $names : [...$names, $add];
    }

    /**
     * @param array{owner: string, max: int, idle: int} $spec
     * @return int when the session was confirmed; 0: it needs no confirmation, or has ended since
     */
    private function finishSignIn(Token $token, array $spec, ?Token $old, ?Record $from, int $everybody): int
    {
        return $this->repeatIfUnknown(function () use ($token, $spec, $old, $from, $everybody): int {
            if ($old !== null && $from !== null && $from->owner !== $spec['owner']) {
                $keys = [$this->keys->session($old->handle()), ...($from->owner === '' ? [] : [$this->keys->index($from->owner)])];
                $this->connection->script('move', $keys, ['left', \substr($token->handle(), 5)], true);
            }
            if (!self::needsConfirmation($spec, $from)) {
                return 0;
            }
            $keys = [$this->keys->session($token->handle()), $this->keys->revocations(\substr($token->handle(), 0, 4))];
            $reply = $this->connection->script('touch', $keys, [$token->verifierHash(), (string) $everybody, '0'], true);
            return match ($reply[0]) {
                'ok' => (int) $reply[1],
                'gone', 'moved' => 0,
                default => throw Reply::failure($token->handle(), $reply),
            };
        });
    }
}
