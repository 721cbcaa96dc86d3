<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The data of users on the server. It has the form of an anonymous session: see "User data" in
 * format/README.md.
 *
 * @internal
 */
final class UserDataStore
{
    public function __construct(
        private readonly Store $store,
        private readonly Connection $connection,
        private readonly Keyspace $keys,
    ) {
    }

    /** What errors call the data of a user. */
    public static function nameOf(string $owner): string
    {
        return "the user data $owner";
    }

    /** @return array{?Record, int} the data, or null if there is none, and the server's time */
    public function read(string $owner): array
    {
        $key = $this->keys->userData($owner);
        [$reply, $time] = $this->connection->read([[$key, ['HGETALL', $key]], [$key, ['TIME']]]);
        $now = Connection::milliseconds($time);
        if ($reply instanceof ReplyError && !\str_starts_with($reply->message, 'WRONGTYPE')) {
            throw new SessionException(Problem::Unavailable, $reply->message);
        }
        try {
            $hash = Connection::pairs($reply) ?? throw new FormatException('user data', 'the key is not a hash');
            $record = $hash === [] ? null : Record::decode($hash);
            if ($record !== null && ($record->current !== $owner || \preg_grep('/\A@(?![sl]\z)/', \array_keys($hash)) !== [])) {
                throw new FormatException('@s', 'it is no user data, or that of another owner');
            }
        } catch (FormatException $e) {
            throw Reply::malformed(self::nameOf($owner), $e);
        }
        return [$record?->isLive($now) ? $record : null, $now];
    }

    /**
     * @param array<array-key, string> $fields
     * @return int|null the server's time; 0: an earlier try has stored it; null: another program
     *     was first
     */
    public function create(string $owner, string $id, array $fields, int $idle, int $lifetime, int $first): ?int
    {
        return $this->store->createUnder($this->keys->userData($owner), $owner, $id, $fields, $idle, $lifetime, $first);
    }

    /**
     * @param list<array{string, string, string, string}> $operations
     * @param int $now the server's time
     * @return list<mixed> the reply of apply.lua
     */
    public function apply(string $owner, Record $record, array $operations, int $maxSize, int $now): array
    {
        $clock = $record->touchDue($owner, $now + 3000) ? '1' : '0';
        $arguments = \array_merge([$owner, (string) $maxSize, '0', "{$clock}00"], ...$operations);
        return $this->connection->script('apply', [$this->keys->userData($owner)], $arguments, false);
    }

    /** Unsets all fields. It does not read them: a key that was dropped does not matter. */
    public function clear(string $owner, int $maxSize): void
    {
        $arguments = [$owner, (string) $maxSize, '0', '100', 'clear', '', '', ''];
        $reply = $this->connection->script('apply', [$this->keys->userData($owner)], $arguments, false);
        if ($reply[0] !== 'ok' && $reply[0] !== 'gone') {
            throw Reply::failure(self::nameOf($owner), $reply);
        }
    }

    public function touch(string $owner): void
    {
        $this->connection->script('touch', [$this->keys->userData($owner)], [$owner, '0', '0'], true);
    }

    /**
     * Moves fields from a session to the data, all of them or none. While the slot moves to another
     * server, the reply is "busy".
     *
     * @param list<array{string, string}> $take names and values in the session
     * @param list<array{string, string, string}> $put names, old and new values in the data, as
     *     join.lua gets them
     * @return list<mixed> the reply of join.lua
     */
    public function join(Token $session, string $owner, int $maxSize, int $revoked, array $take, array $put): array
    {
        $key = $this->keys->session($session->handle());
        $keys = [$key, $this->keys->userData($owner), $this->keys->revocations(Keyspace::bucketOf($owner))];
        $arguments = [$session->verifierHash(), (string) $maxSize, (string) $revoked, '0', (string) \count($take)];
        return $this->connection->script('join', $keys, \array_merge($arguments, ...$take, ...$put), true, ['busy']);
    }
}
