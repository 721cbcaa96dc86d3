<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Sessions on one Redis or Valkey, or on a Cluster, through phpredis.
 *
 *     $store = Store::connect('redis://localhost:6379');
 *     $store = new Store(fn () => $container->get('redis'));
 *
 * A closure is called again after a lost connection, and in a forked process. An object is enough
 * for a program that lives for one request. It may have any prefix, serializer and compression:
 * they do not apply here. Errors are SessionExceptions.
 */
final class Store
{
    private const BATCH = 900; // a script takes 1,000 keys
    private const DAY = 86_400_000;
    private const UNCONFIRMED = 60_000;

    private Connection $connection;

    /**
     * @param string $namespace begins all keys: 1 to 64 of a-z A-Z 0-9 . _ -
     * @param int $replicas how many replicas must have an end before it is reported. A failover can
     *     undo an end that no replica has, and this program cannot repeat it later. Default: 0
     * @param int $replicaTimeout how long to wait for them, in milliseconds
     * @param float $timeout how long to repeat what certainly did not run, in seconds
     */
    public function __construct(
        \Redis|\RedisCluster|\Closure $redis,
        private readonly string $namespace = 'coatcheck',
        private readonly int $replicas = 0,
        private readonly int $replicaTimeout = 1000,
        float $timeout = 2.0,
    ) {
        if ($namespace !== 'coatcheck' && \preg_match('/\A[A-Za-z0-9._-]{1,64}\z/', $namespace) !== 1) {
            throw new \InvalidArgumentException('session: a namespace has 1 to 64 of a-z A-Z 0-9 . _ -');
        }
        $this->connection = new Connection($redis, $timeout);
    }

    /**
     * Connects at the first use.
     *
     * @param string $url redis://user:password@host:port/database, rediss:// for TLS, or
     *     redis-cluster://host:port,host:port
     * @param bool $persistent keeps the connection for the next requests of this process
     */
    public static function connect(
        string $url, string $namespace = 'coatcheck', int $replicas = 0, int $replicaTimeout = 1000, float $timeout = 2.0,
        bool $persistent = true,
    ): self {
        if (\preg_match('~\A(rediss?|redis-cluster)://(?:([^:@/]*):([^@/]*)@)?([^/@]+?)(?:/(\d+))?/?\z~', $url, $m) !== 1) {
            throw new \InvalidArgumentException('session: the URL is not redis://host:port or redis-cluster://host:port,host:port');
        }
        [, $scheme, $user, $password, $hosts] = \str_contains($url, '%') ? \array_map(\rawurldecode(...), $m) : $m;
        $database = (int) ($m[5] ?? 0);
        $auth = $password === '' ? null : ($user === '' ? [$password] : [$user, $password]);
        // phpredis checks a persistent connection by a round trip. Without a password, which takes
        // the same round trip, the Connection checks it together with the first command.
        $pooled = $persistent && $auth === null && $database === 0 && $scheme !== 'redis-cluster';
        $connect = static function () use ($scheme, $auth, $hosts, $database, $timeout, $persistent, $pooled, $url): \Redis|\RedisCluster {
            $read = $timeout + 1;
            if ($scheme === 'redis-cluster') {
                return new \RedisCluster(null, \explode(',', $hosts), $timeout, $read, false, $auth);
            }
            [$host, $port] = \preg_match('/\A(.+):(\d+)\z/', $hosts, $h) === 1 ? [\trim($h[1], '[]'), (int) $h[2]] : [$hosts, 6379];
            $redis = new \Redis();
            $host = ($scheme === 'rediss' ? 'tls://' : '') . $host;
            $context = $auth === null ? [] : ['auth' => $auth];
            if (!$persistent) {
                $redis->connect($host, $port, $timeout, null, 0, $read, $context);
            } else {
                $check = $pooled ? \ini_set('redis.pconnect.echo_check_liveness', '0') : false;
                try {
                    // The id keeps a connection of another database or user apart.
                    $redis->pconnect($host, $port, $timeout, 'coatcheck-' . \hash('xxh64', $url), 0, $read, $context);
                } finally {
                    $check === false || \ini_set('redis.pconnect.echo_check_liveness', $check);
                }
            }
            if ($database !== 0 && !$redis->select($database)) {
                throw new \RedisException("cannot select database $database: {$redis->getLastError()}");
            }
            return $redis;
        };
        $store = new self($connect, $namespace, $replicas, $replicaTimeout, $timeout);
        $store->connection = new Connection($connect, $timeout, $pooled);
        return $store;
    }

    // Keys

    private function sessionKey(string $handle): string
    {
        [$bucket, $name] = \explode('-', $handle, 2);
        return "$this->namespace:{{$bucket}}:s:$name";
    }

    private static function bucketOf(string $owner): string
    {
        return \bin2hex(\substr((string) Text::decode($owner), 0, 2));
    }

    private function indexKey(string $owner): string
    {
        return "$this->namespace:{" . self::bucketOf($owner) . "}:u:$owner";
    }

    private function revocationsKey(string $bucket): string
    {
        return "$this->namespace:{{$bucket}}:n";
    }

    private function revokedKey(): string
    {
        return "$this->namespace:revoked";
    }

    // Reading

    /**
     * Reads a session.
     *
     * @internal
     * @param int $began when the request began, by hrtime
     */
    public function read(Token $token, int $began): Reading
    {
        return $this->readBy($token->handle(), $token->verifierHash(), $token->generation, $began);
    }

    /** @internal */
    public function readBy(string $handle, string $verifier, int $generation, int $began): Reading
    {
        $key = $this->sessionKey($handle);
        $n = $this->revocationsKey(\substr($handle, 0, 4));
        $revokedKey = $this->revokedKey();
        $ageBefore = \hrtime(true) - $began;
        [$session, $revocations, $revoked, $time] = $this->connection->read([
            [$key, ['HGETALL', $key]],
            [$n, ['HGETALL', $n]],
            [$revokedKey, ['GET', $revokedKey]],
            [$key, ['TIME']],
        ]);
        $now = self::milliseconds($time);
        $began = $now - \intdiv(\hrtime(true) - $began, 1_000_000);
        $reading = Reading::decide(
            self::pairs($session), self::pairs($revocations), \is_string($revoked) || $revoked === false ? $revoked : null,
            \substr($handle, 5), $verifier, $generation, $now, $began,
            // A request that follows an end must never seem to have begun before it.
            $now - \intdiv($ageBefore, 1_000_000) - $began + 2,
        );
        if ($reading->error !== null) {
            foreach ([$session, $revocations, $revoked] as $reply) {
                if ($reply instanceof ReplyError && !\str_starts_with($reply->message, 'WRONGTYPE')) {
                    throw new SessionException(Problem::Unavailable, $reply->message);
                }
            }
            throw $this->malformed($handle, $reading->error);
        }
        return $reading;
    }

    private function malformed(string $what, FormatException $e): SessionException
    {
        return new SessionException(Problem::Unavailable, "$what is malformed: {$e->getMessage()}", $e);
    }

    /** @return array<array-key, string>|null the names and values of a hash; null for an error */
    private static function pairs(mixed $reply): ?array
    {
        if (!\is_array($reply)) {
            return null;
        }
        $pairs = [];
        for ($i = 0; $i + 1 < \count($reply); $i += 2) {
            $pairs[$reply[$i]] = $reply[$i + 1];
        }
        return $pairs;
    }

    private static function milliseconds(mixed $time): int
    {
        if (!\is_array($time)) {
            throw new SessionException(Problem::Unavailable, $time instanceof ReplyError ? $time->message : 'TIME has no reply');
        }
        return (int) $time[0] * 1000 + \intdiv((int) $time[1], 1000);
    }

    /** @return array{int, int} when everybody was revoked, or 0, and the server's time */
    private function everybody(): array
    {
        $key = $this->revokedKey();
        [$revoked, $time] = $this->connection->read([[$key, ['GET', $key]], [$key, ['TIME']]]);
        try {
            $at = Reading::everybody(\is_string($revoked) || $revoked === false ? $revoked : null);
        } catch (FormatException $e) {
            throw $this->malformed($key, $e);
        }
        return [$at, self::milliseconds($time)];
    }

    // One session

    /**
     * Stores a new session of nobody.
     *
     * @internal
     * @param array<array-key, string> $fields
     * @return int the server's time
     */
    public function create(Token $token, string $id, array $fields, int $idle, int $lifetime, int $first): int
    {
        $arguments = [
            $id, $token->verifierHash(), (string) View::sizeOf($fields), (string) $idle, (string) $lifetime, (string) $first, '0',
            ...self::flat($fields),
        ];
        $reply = $this->connection->script('create', [$this->sessionKey($token->handle())], $arguments, true);
        return match ($reply[0]) {
            'ok' => (int) $reply[1],
            'again' => 0,
            'exists' => throw new SessionException(Problem::Unavailable, 'a session with the new id exists'),
            default => throw $this->failure($token->handle(), $reply),
        };
    }

    /**
     * @param array<array-key, string> $fields
     * @return list<string>
     */
    private static function flat(array $fields): array
    {
        $flat = [];
        foreach ($fields as $name => $value) {
            \array_push($flat, (string) $name, $value);
        }
        return $flat;
    }

    /** @param list<mixed> $reply */
    private function failure(string $what, array $reply): SessionException
    {
        $detail = \implode(' ', \array_filter($reply, \is_string(...)));
        return new SessionException(Problem::Unavailable, "$what: the server replies: $detail");
    }

    /**
     * Makes one change.
     *
     * @internal
     * @param bool $issued the request issued its verifier itself
     * @param list<array{string, string, string, string}> $operations the first may be renew or
     *     rotate
     * @param int $revoked when everybody was revoked, as far as the request knows
     * @param int $now the server's time
     * @return list<mixed> the reply
     */
    public function apply(
        Token $token, Record $record, bool $issued, array $operations, int $maxSize, int $revoked, int $now,
    ): array {
        $key = $this->sessionKey($token->handle());
        // The record is that of this request's own read: what cannot change may be left out.
        $keys = $record->owner === '' ? [$key] : [$key, $this->revocationsKey(\substr($token->handle(), 0, 4))];
        $verifier = $token->verifierHash();
        $clock = $record->touchDue($issued ? '' : $verifier, $now + 3000);
        $arguments = [
            $verifier, (string) $maxSize, $record->created > $revoked ? '0' : (string) $revoked,
            ($clock ? '1' : '0') . '0' . ($issued ? '1' : '0'),
        ];
        foreach ($operations as $operation) {
            \array_push($arguments, ...$operation);
        }
        // A renewal names everything by its new verifier, so it may be repeated.
        $repeatable = \count($operations) === 1 && $operations[0][0] === 'renew';
        return $this->connection->script('apply', $keys, $arguments, $repeatable);
    }

    /** @internal */
    public function touch(Token $token, Record $record, int $revoked): void
    {
        $key = $this->sessionKey($token->handle());
        $this->connection->script('touch', [$key, $this->revocationsKey(\substr($token->handle(), 0, 4))], [
            $token->verifierHash(), $record->created > $revoked ? '0' : (string) $revoked, '0',
        ], true);
    }

    /**
     * Ends a session, and waits for replicas if the store has $replicas.
     *
     * @internal
     * @param string|null $owner '' for nobody; null: not known
     * @return string "ended", "none" or "moved"
     */
    public function end(Token $token, ?string $owner): string
    {
        $key = $this->sessionKey($token->handle());
        if ($owner === null) {
            [$user] = $this->connection->read([[$key, ['HGET', $key, '@u']]]);
            $owner = \is_string($user) && Text::isHash(\substr($user, 0, 22)) ? \substr($user, 0, 22) : '';
        }
        if ($owner !== '' && self::bucketOf($owner) !== \substr($token->handle(), 0, 4)) {
            $owner = ''; // the record is malformed
        }
        $keys = $owner === '' ? [$key] : [$key, $this->indexKey($owner)];
        $attempt = Text::hash(\random_bytes(16));
        $reply = $this->connection->script('end', $keys, [$attempt, $this->replicas > 0 ? '1' : '0'], true);
        $this->waitForReplicas($key);
        return match ($reply[0]) {
            'ok' => ((int) $reply[2]) === 1 ? 'ended' : 'none',
            'moved' => 'moved',
            default => throw $this->failure($token->handle(), $reply),
        };
    }

    /** WAIT counts the writes of its own connection. So there must be one just before. */
    private function waitForReplicas(string $key): void
    {
        if ($this->replicas === 0) {
            return;
        }
        [$got] = $this->connection->send([[$key, ['WAIT', (string) $this->replicas, (string) $this->replicaTimeout]]]);
        if (!\is_int($got) || $got < $this->replicas) {
            $got = $got instanceof ReplyError ? $got->message : (string) \json_encode($got);
            throw new SessionException(
                Problem::UnknownOutcome, "the end is done, but not $this->replicas replicas acknowledged it in time: $got",
            );
        }
    }

    // Users

    /**
     * Signs a user in. All steps are made before it returns.
     *
     * @internal
     * @param array{owner: string, id: string, info: string, level: int, persistent: bool, idle:
     *     int, lifetime: int, max: int, refuse: bool, ago: int} $spec
     * @param \Closure(): int $age how long ago the authentication began, in milliseconds
     * @param \Closure(?Record): array<array-key, string> $fields of the new session, from the old
     *     one
     * @return array{Record, int, int, bool} the new session, the server's time, when everybody was
     *     revoked, and whether the times in the record are exact
     */
    public function signIn(Token $token, array $spec, ?Token $old, \Closure $age, \Closure $fields): array
    {
        [$everybody, $now] = $this->everybody();
        $began = $now - $age();
        if ($began <= $everybody || $now - $began > self::DAY) {
            throw new SessionException(Problem::Revoked, 'everybody was signed out after the authentication began');
        }
        $from = $old === null ? null : $this->leave($old, $token, $everybody);
        try {
            $values = $fields($from);
            $created = $this->storeSignIn($token, $spec, $from === null ? null : $old, $from, $began, $everybody, $values);
            [$everybody, $now] = $this->repeatIfUnknown(fn (): array => $this->everybody());
            if ($began <= $everybody) {
                $this->endNamed($spec['owner'], [$token->handle()]);
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
        $key = $this->sessionKey($old->handle());
        $keys = [$key, $this->revocationsKey(\substr($old->handle(), 0, 4))];
        $arguments = ['leave', \substr($new->handle(), 5), $old->verifierHash(), (string) $everybody];
        $reply = $this->connection->script('move', $keys, $arguments, true);
        if ($reply[0] === 'gone' || $reply[0] === 'moved') {
            return null;
        }
        if ($reply[0] !== 'ok') {
            throw $this->failure($old->handle(), $reply);
        }
        try {
            return Record::decode(self::pairs($reply[2]) ?? []);
        } catch (FormatException $e) {
            throw $this->malformed($old->handle(), $e);
        }
    }

    private function stay(Token $old, Token $new): void
    {
        try {
            $this->connection->script('move', [$this->sessionKey($old->handle())], ['stay', \substr($new->handle(), 5)], true);
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
                $this->sessionKey($token->handle()), $this->indexKey($owner), $this->revocationsKey(self::bucketOf($owner)),
                ...\array_map(fn (string $name): string => $this->sessionKey(self::bucketOf($owner) . "-$name"), $names),
            ];
            $first = self::needsConfirmation($spec, $from) ? self::UNCONFIRMED : $spec['idle'];
            $reply = $this->connection->script('signin', $keys, [
                $spec['id'], $token->verifierHash(), (string) View::sizeOf($values), (string) $spec['idle'], (string) $spec['lifetime'],
                (string) $first, $version, (string) $began, (string) $spec['ago'], (string) $spec['max'], $spec['refuse'] ? '1' : '0',
                (string) $everybody, $oldName, $user, ...Record::infoArguments($spec['info']), ...self::flat($values),
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
            default => throw $this->failure("user $owner", $reply),
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
            $index = $this->indexKey($owner);
            $entries = \random_int(0, 7) > 0 ? [] : $this->scores(['ZRANDMEMBER', $index, '20', 'WITHSCORES']);
            unset($entries['@rev']);
            return [self::names($entries, $oldName), ''];
        }
        [$entries, $version] = $this->index($owner);
        if (\count($entries) > self::BATCH) {
            // More than the script takes: the sessions over the limit end before it runs.
            $this->cleanIndex($owner, \array_map(\strval(...), \array_keys($entries)));
            [$entries] = $this->index($owner);
            unset($entries[$oldName]);
            $extra = \array_slice(self::names($entries, ''), 0, \max(0, \count($entries) - $spec['max']));
            if ($extra !== [] && $spec['refuse']) {
                throw new SessionException(Problem::TooMany, "at most {$spec['max']} sessions");
            }
            $handles = \array_map(fn (string $name): string => self::bucketOf($owner) . "-$name", $extra);
            $this->endNamed($owner, $handles);
            [$entries, $version] = $this->index($owner);
        }
        return [self::names($entries, $oldName), $version];
    }

    /**
     * @param list<string> $command
     * @return array<array-key, int> scores by member
     */
    private function scores(array $command): array
    {
        [$reply] = $this->connection->read([[$command[1], $command]]);
        if ($reply instanceof ReplyError) {
            throw new SessionException(Problem::Unavailable, "$command[1]: $reply->message");
        }
        return \array_map(\intval(...), self::pairs($reply) ?? []);
    }

    /**
     * @return array{array<array-key, int>, string} the user's index, without its version, and the
     *     version
     */
    private function index(string $owner): array
    {
        $entries = $this->scores(['ZRANGE', $this->indexKey($owner), '0', '-1', 'WITHSCORES']);
        $version = (string) ($entries['@rev'] ?? 0);
        unset($entries['@rev']);
        return [$entries, $version];
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

    /** @param list<string> $names */
    private function cleanIndex(string $owner, array $names): void
    {
        $n = $this->revocationsKey(self::bucketOf($owner));
        [$revocation] = $this->connection->read([[$n, ['HGET', $n, $owner]]]);
        if (\is_string($revocation)) {
            $this->endRevoked($owner, $revocation, []);
        }
        foreach (\array_chunk($names, self::BATCH) as $batch) {
            $keys = \array_map(fn (string $name): string => $this->sessionKey(self::bucketOf($owner) . "-$name"), $batch);
            $this->connection->script('clean', [$this->indexKey($owner), $n, ...$keys], [], true);
        }
    }

    /**
     * @param array{owner: string, max: int, idle: int} $spec
     * @return int when the session was confirmed; 0: it needs no confirmation, or has ended since
     */
    private function finishSignIn(Token $token, array $spec, ?Token $old, ?Record $from, int $everybody): int
    {
        return $this->repeatIfUnknown(function () use ($token, $spec, $old, $from, $everybody): int {
            if ($old !== null && $from !== null && $from->owner !== $spec['owner']) {
                $keys = [$this->sessionKey($old->handle()), ...($from->owner === '' ? [] : [$this->indexKey($from->owner)])];
                $this->connection->script('move', $keys, ['left', \substr($token->handle(), 5)], true);
            }
            if (!self::needsConfirmation($spec, $from)) {
                return 0;
            }
            $keys = [$this->sessionKey($token->handle()), $this->revocationsKey(\substr($token->handle(), 0, 4))];
            $reply = $this->connection->script('touch', $keys, [$token->verifierHash(), (string) $everybody, '0'], true);
            return match ($reply[0]) {
                'ok' => (int) $reply[1],
                'gone', 'moved' => 0,
                default => throw $this->failure($token->handle(), $reply),
            };
        });
    }

    /**
     * The user's live sessions, the newest first, a page of 100 at a time.
     *
     * @internal
     * @return \Generator<string, Record> by handle. The records have no fields
     */
    public function sessions(string $owner): \Generator
    {
        $index = $this->indexKey($owner);
        $bucket = self::bucketOf($owner);
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
        $n = $this->revocationsKey($bucket);
        $get = function (string $name, array $fields) use ($bucket): array {
            $key = $this->sessionKey("$bucket-$name");
            return [$key, ['HMGET', $key, ...$fields]];
        };
        $keys = \array_map(\strval(...), \array_keys($entries));
        $replies = $this->connection->read([
            ...\array_map(fn (string $name): array => $get($name, $names), $keys),
            [$n, ['HGETALL', $n]], [$this->revokedKey(), ['GET', $this->revokedKey()]], [$n, ['TIME']],
        ]);
        $now = self::milliseconds(\array_pop($replies));
        $revoked = \array_pop($replies);
        $revocations = self::pairs(\array_pop($replies)) ?? throw new SessionException(Problem::Unavailable, "$n is no hash");
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
                throw $this->malformed("$bucket-$name", $e);
            }
        }
    }

    /**
     * Ends sessions of a user, whatever their age.
     *
     * @internal
     * @param list<string> $handles
     * @return list<string> those that were alive
     */
    public function endNamed(string $owner, array $handles): array
    {
        $ended = [];
        foreach (\array_chunk($handles, self::BATCH) as $batch) {
            $ended = [...$ended, ...$this->endUser($owner, ['only', '', '0'], $batch)[1]];
        }
        $this->replicate(self::bucketOf($owner));
        return $ended;
    }

    /**
     * Ends all sessions of a user, except those with these handles.
     *
     * @internal
     * @param list<string> $except
     * @param int $longest how long the user's sessions may live, in milliseconds
     * @return list<string> the handles of those that ended
     */
    public function endAllOf(string $owner, array $except, int $longest): array
    {
        $except = \array_values(\array_filter($except, fn (string $handle): bool => \substr($handle, 0, 4) === self::bucketOf($owner)));
        [$revocation, $ended, $remaining] = $this->endUser($owner, ['all', (string) \max($longest, self::DAY), '0'], $except);
        $ended = [...$ended, ...$this->endRevoked($owner, $revocation, $remaining)];
        $this->replicate(self::bucketOf($owner));
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
        $bucket = self::bucketOf($owner);
        $keys = [$this->indexKey($owner), $this->revocationsKey($bucket), ...\array_map($this->sessionKey(...), $handles)];
        // A repetition of "only" would not know which sessions the first call ended.
        $reply = $this->connection->script('enduser', $keys, $arguments, $arguments[0] !== 'only');
        if ($reply[0] !== 'ok') {
            throw $this->failure("user $owner", $reply);
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
        if ($this->replicas > 0) {
            $key = "$this->namespace:{{$bucket}}:w";
            $this->connection->send([[$key, ['EVAL', "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], '') return redis.call('DEL', KEYS[1])", '1', $key]]]);
            $this->waitForReplicas($key);
        }
    }

    /** @internal */
    public function endEverybody(): void
    {
        $key = $this->revokedKey();
        $raise = fn (string $to, bool $write): int => (int) $this->connection->script('revokeall', [$key], [$to, $write ? '1' : '0'], true)[2];
        $at = $raise('', false);
        $nodes = $this->connection->isCluster() ? $this->connection->primaries() : [$key];
        $latest = $at;
        foreach ($nodes as $node) {
            [$time] = $this->connection->read([[$node, ['TIME']]]);
            $latest = \max($latest, self::milliseconds($time));
        }
        // It covers sessions that servers created whose clock is ahead.
        $at = $raise((string) \min($latest, $at + 60_000), $this->replicas > 0);
        $this->waitForReplicas($key);
        foreach ($nodes as $node) {
            $this->removeRevoked($node, $at);
        }
    }

    /** @param string|array{string, int} $node */
    private function removeRevoked(string|array $node, int $at): void
    {
        $cursor = '0';
        do {
            [$reply] = $this->connection->read([[$node, ['SCAN', $cursor, 'MATCH', "$this->namespace:{*}:s:*", 'COUNT', '1000']]]);
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
