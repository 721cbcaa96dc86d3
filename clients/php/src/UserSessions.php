<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The sessions of a user: the list of them, and their ends.
 *
 * @internal
 */
final class UserSessions
{
    public const BATCH = 900; // a script takes 1,000 keys
    private const DAY = 86_400_000;

    public function __construct(
        private readonly Connection $connection,
        private readonly Keyspace $keys,
        private readonly Replication $replication,
    ) {
    }

    /**
     * The user's live sessions, the newest first, a page of 100 at a time.
     *
     * @return \Generator<string, Record> by handle. The records have no fields
     */
    public function sessions(string $owner): \Generator
    {
        $index = $this->keys->index($owner);
        $bucket = Keyspace::bucketOf($owner);
        $from = '+inf';
        $last = '';
        $count = 100;
        while (true) {
            $entries = $this->scores(['ZRANGE', $index, $from, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', (string) $count, 'WITHSCORES']);
            $full = \count($entries) === $count;
            unset($entries['@rev']);
            $new = \array_filter(
                $entries,
                fn (int $score, int|string $name): bool => $from === '+inf' || $score < (int) $from
                    || $score === (int) $from && \strcmp((string) $name, $last) < 0,
                ARRAY_FILTER_USE_BOTH,
            );
            if ($new === [] && $full) {
                $count *= 2;
                continue;
            }
            $count = 100;
            yield from $this->metadata($owner, $bucket, $new);
            if (!$full) {
                return;
            }
            $last = (string) \array_key_last($new);
            $from = (string) $new[$last];
        }
    }

    /**
     * @param array<array-key, int> $entries
     * @return \Generator<string, Record>
     */
    private function metadata(string $owner, string $bucket, array $entries): \Generator
    {
        if ($entries === []) {
            return;
        }
        $names = ['@s', '@l', '@previous', '@overtaken', '@u', '@moving', '@moved', '@ended', '@i', '@i2', '@i3', '@i4', '@i5', '@i6', '@i7', '@i8'];
        $n = $this->keys->revocations($bucket);
        $get = function (string $name, array $fields) use ($bucket): array {
            $key = $this->keys->session("$bucket-$name");
            return [$key, ['HMGET', $key, ...$fields]];
        };
        $keys = \array_map(\strval(...), \array_keys($entries));
        $replies = $this->connection->read([
            ...\array_map(fn (string $name): array => $get($name, $names), $keys),
            [$n, ['HGETALL', $n]], [$this->keys->revoked(), ['GET', $this->keys->revoked()]], [$n, ['TIME']],
        ]);
        $now = Connection::milliseconds(\array_pop($replies));
        $revoked = \array_pop($replies);
        $revocations = Connection::pairs(\array_pop($replies)) ?? throw new SessionException(Problem::Unavailable, "$n is no hash");
        foreach ($keys as $i => $name) {
            try {
                $everybody = Reading::everybody(\is_string($revoked) || $revoked === false ? $revoked : null);
                $reply = $replies[$i];
                if (!\is_array($reply)) {
                    throw new FormatException('session', 'the key is not a hash');
                }
                $hash = \array_filter(\array_combine($names, $reply), \is_string(...));
                $parts = isset($hash['@u']) && \strlen($hash['@u']) === 41 ? \intdiv((int) \hexdec(\substr($hash['@u'], 37)) + 63, 64) : 0;
                if ($parts > 8) { // read it again as a whole: it may have ended since
                    $all = [...$names, ...\array_map(fn (int $part): string => "@i$part", \range(9, \min(192, $parts)))];
                    [$reply] = $this->connection->read([$get($name, $all)]);
                    $hash = \is_array($reply) ? \array_filter(\array_combine($all, $reply), \is_string(...)) : [];
                }
                if ($hash === [] || isset($hash['@ended']) || isset($hash['@moved'])) {
                    continue;
                }
                $record = Record::decode($hash, false);
                if ($record->created !== $entries[$name] || $record->owner !== $owner) {
                    throw new FormatException('@l', 'the index has another time of creation, or another owner');
                }
                if ($record->created > $everybody && Reading::revokedSince($record, $revocations, $name) === 0 && $record->isLive($now)) {
                    yield "$bucket-$name" => $record;
                }
            } catch (FormatException $e) {
                throw Reply::malformed("$bucket-$name", $e);
            }
        }
    }

    /**
     * @param list<string> $command
     * @return array<array-key, int> scores by member
     */
    public function scores(array $command): array
    {
        [$reply] = $this->connection->read([[$command[1], $command]]);
        if ($reply instanceof ReplyError) {
            throw new SessionException(Problem::Unavailable, "$command[1]: $reply->message");
        }
        return \array_map(\intval(...), Connection::pairs($reply) ?? []);
    }

    /**
     * @return array{array<array-key, int>, string} the user's index, without its version, and the
     *     version
     */
    public function index(string $owner): array
    {
        $entries = $this->scores(['ZRANGE', $this->keys->index($owner), '0', '-1', 'WITHSCORES']);
        $version = (string) ($entries['@rev'] ?? 0);
        unset($entries['@rev']);
        return [$entries, $version];
    }

    /** @param list<string> $names */
    public function cleanIndex(string $owner, array $names): void
    {
        $n = $this->keys->revocations(Keyspace::bucketOf($owner));
        [$revocation] = $this->connection->read([[$n, ['HGET', $n, $owner]]]);
        if (\is_string($revocation)) {
            $this->endRevoked($owner, $revocation, []);
        }
        foreach (\array_chunk($names, self::BATCH) as $batch) {
            $keys = \array_map(fn (string $name): string => $this->keys->session(Keyspace::bucketOf($owner) . "-$name"), $batch);
            $this->connection->script('clean', [$this->keys->index($owner), $n, ...$keys], [], true);
        }
    }

    /**
     * Ends sessions of a user, whatever their age.
     *
     * @param list<string> $handles
     * @return list<string> those that were alive
     */
    public function endNamed(string $owner, array $handles): array
    {
        $ended = [];
        foreach (\array_chunk($handles, self::BATCH) as $batch) {
            $ended = [...$ended, ...$this->endUser($owner, ['only', '', '0'], $batch)[1]];
        }
        $this->replicate(Keyspace::bucketOf($owner));
        return $ended;
    }

    /**
     * Ends all sessions of a user, except those with these handles.
     *
     * @param list<string> $except
     * @param int $longest how long the user's sessions may live, in milliseconds
     * @return list<string> the handles of those that ended
     */
    public function endAllOf(string $owner, array $except, int $longest): array
    {
        $except = \array_values(\array_filter($except, fn (string $handle): bool => \substr($handle, 0, 4) === Keyspace::bucketOf($owner)));
        [$revocation, $ended, $remaining] = $this->endUser($owner, ['all', (string) \max($longest, self::DAY), '0'], $except);
        $ended = [...$ended, ...$this->endRevoked($owner, $revocation, $remaining)];
        $this->replicate(Keyspace::bucketOf($owner));
        return $ended;
    }

    /**
     * Removes the sessions that a revocation covers. They are revoked already.
     *
     * @param list<string> $handles
     * @return list<string>
     */
    private function endRevoked(string $owner, string $revocation, array $handles): array
    {
        $all = [];
        do {
            [, $ended, $handles] = $this->endUser($owner, ['again', $revocation, '0'], $handles);
            $all = [...$all, ...$ended];
        } while ($handles !== []);
        return $all;
    }

    /**
     * @param list<string> $arguments
     * @param list<string> $handles
     * @return array{string, list<string>, list<string>} the revocation, who ended, who is to be
     *     removed
     */
    private function endUser(string $owner, array $arguments, array $handles): array
    {
        $bucket = Keyspace::bucketOf($owner);
        $keys = [$this->keys->index($owner), $this->keys->revocations($bucket), ...\array_map($this->keys->session(...), $handles)];
        // A repetition of "only" would not know which sessions the first call ended.
        $reply = $this->connection->script('enduser', $keys, $arguments, $arguments[0] !== 'only');
        if ($reply[0] !== 'ok') {
            throw Reply::failure("user $owner", $reply);
        }
        $handle = fn (string $name): string => "$bucket-$name";
        return [(string) $reply[2], \array_map($handle, $reply[3]), \array_map($handle, $reply[5])];
    }

    /**
     * Writes something, and waits for replicas. Replication is ordered, so they have the ends
     * before it.
     */
    private function replicate(string $bucket): void
    {
        if ($this->replication->isRequired()) {
            $key = $this->keys->replicated($bucket);
            $this->connection->send([[$key, ['EVAL', "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], '') return redis.call('DEL', KEYS[1])", '1', $key]]]);
            $this->replication->wait($key);
        }
    }

    public function endEverybody(): void
    {
        $key = $this->keys->revoked();
        $raise = fn (string $to, bool $write): int => (int) $this->connection->script('revokeall', [$key], [$to, $write ? '1' : '0'], true)[2];
        $at = $raise('', false);
        $nodes = $this->connection->isCluster() ? $this->connection->primaries() : [$key];
        $latest = $at;
        foreach ($nodes as $node) {
            [$time] = $this->connection->read([[$node, ['TIME']]]);
            $latest = \max($latest, Connection::milliseconds($time));
        }
        // It covers sessions that servers created whose clock is ahead.
        $at = $raise((string) \min($latest, $at + 60_000), $this->replication->isRequired());
        $this->replication->wait($key);
        foreach ($nodes as $node) {
            $this->removeRevoked($node, $at);
        }
    }

    /** @param string|array{string, int} $node */
    private function removeRevoked(string|array $node, int $at): void
    {
        $cursor = '0';
        do {
            [$reply] = $this->connection->read([[$node, ['SCAN', $cursor, 'MATCH', $this->keys->allSessions(), 'COUNT', '1000']]]);
            if (!\is_array($reply)) {
                throw new SessionException(Problem::Unavailable, 'everybody is signed out, but not all sessions are removed: call again');
            }
            [$cursor, $keys] = $reply;
            $lives = $keys === [] ? [] : $this->connection->read(\array_map(fn (string $key): array => [$key, ['HGET', $key, '@l']], $keys));
            $revoked = [];
            foreach ($keys as $i => $key) {
                $created = \is_string($lives[$i]) ? Text::number(\substr($lives[$i], 22, 12)) : 0;
                if ($lives[$i] !== false && ($created ?? 0) <= $at) {
                    $revoked[] = [$key, ['DEL', $key]];
                }
            }
            if ($revoked !== []) {
                $this->connection->read($revoked); // repeating a DEL of a revoked session is safe
            }
        } while ($cursor !== '0');
    }
}
