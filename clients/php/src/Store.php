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
    private readonly Connection $connection;
    private readonly Keyspace $keys;
    private ?Replication $replication = null;
    private ?UserSessions $users = null;
    private ?UserDataStore $userData = null;

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
        $this->keys = new Keyspace($namespace);
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
                    // Without a pool, the id keeps the connection of another user apart.
                    $redis->pconnect($host, $port, $timeout, 'coatcheck-' . \hash('xxh64', $url), 0, $read, $context);
                    // The pool of the process knows no ids. So the connection may have the timeout
                    // and the database of other code.
                    $redis->setOption(\Redis::OPT_READ_TIMEOUT, $read);
                } finally {
                    $check === false || \ini_set('redis.pconnect.echo_check_liveness', $check);
                }
            }
            if (($database !== 0 || $persistent && !$pooled) && !$redis->select($database)) {
                throw new \RedisException("cannot select database $database: {$redis->getLastError()}");
            }
            return $redis;
        };
        $store = new self($connect, $namespace, $replicas, $replicaTimeout, $timeout);
        $store->connection->isPooled = $pooled;
        return $store;
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
        $key = $this->keys->session($handle);
        $n = $this->keys->revocations(\substr($handle, 0, 4));
        $revokedKey = $this->keys->revoked();
        $ageBefore = \hrtime(true) - $began;
        [$session, $revocations, $revoked, $time] = $this->connection->read([
            [$key, ['HGETALL', $key]],
            [$n, ['HGETALL', $n]],
            [$revokedKey, ['GET', $revokedKey]],
            [$key, ['TIME']],
        ]);
        $now = Connection::milliseconds($time);
        $began = $now - \intdiv(\hrtime(true) - $began, 1_000_000);
        $reading = Reading::decide(
            Connection::pairs($session), Connection::pairs($revocations), \is_string($revoked) || $revoked === false ? $revoked : null,
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
            throw Reply::malformed($handle, $reading->error);
        }
        return $reading;
    }

    /**
     * @internal
     * @return array{int, int} when everybody was revoked, or 0, and the server's time
     */
    public function everybody(): array
    {
        $key = $this->keys->revoked();
        [$revoked, $time] = $this->connection->read([[$key, ['GET', $key]], [$key, ['TIME']]]);
        try {
            $at = Reading::everybody(\is_string($revoked) || $revoked === false ? $revoked : null);
        } catch (FormatException $e) {
            throw Reply::malformed($key, $e);
        }
        return [$at, Connection::milliseconds($time)];
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
        return $this->createUnder($this->keys->session($token->handle()), $token->verifierHash(), $id, $fields, $idle, $lifetime, $first)
            ?? throw new SessionException(Problem::Unavailable, 'a session with the new id exists');
    }

    /**
     * Stores a new record of nobody under a key.
     *
     * @internal
     * @param array<array-key, string> $fields
     * @return int|null the server's time; 0: an earlier try has stored it; null: the key is taken
     */
    public function createUnder(string $key, string $verifier, string $id, array $fields, int $idle, int $lifetime, int $first): ?int
    {
        $arguments = [
            $id, $verifier, (string) View::sizeOf($fields), (string) $idle, (string) $lifetime, (string) $first, '0',
            ...Record::fieldArguments($fields),
        ];
        $reply = $this->connection->script('create', [$key], $arguments, true);
        return match ($reply[0]) {
            'ok' => (int) $reply[1],
            'again' => 0,
            'exists' => null,
            default => throw Reply::failure($key, $reply),
        };
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
        $key = $this->keys->session($token->handle());
        // The record is that of this request's own read: what cannot change may be left out.
        $keys = $record->owner === '' ? [$key] : [$key, $this->keys->revocations(\substr($token->handle(), 0, 4))];
        $verifier = $token->verifierHash();
        $clock = $record->touchDue($issued ? '' : $verifier, $now + 3000);
        $arguments = [
            $verifier, (string) $maxSize, $record->created > $revoked ? '0' : (string) $revoked,
            ($clock ? '1' : '0') . '0' . ($issued ? '1' : '0'),
        ];
        // A renewal names everything by its new verifier, so it may be repeated.
        $repeatable = \count($operations) === 1 && $operations[0][0] === 'renew';
        return $this->connection->script('apply', $keys, \array_merge($arguments, ...$operations), $repeatable);
    }

    /** @internal */
    public function touch(Token $token, Record $record, int $revoked): void
    {
        $key = $this->keys->session($token->handle());
        $this->connection->script('touch', [$key, $this->keys->revocations(\substr($token->handle(), 0, 4))], [
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
        $key = $this->keys->session($token->handle());
        if ($owner === null) {
            [$user] = $this->connection->read([[$key, ['HGET', $key, '@u']]]);
            $owner = \is_string($user) && Text::isHash(\substr($user, 0, 22)) ? \substr($user, 0, 22) : '';
        }
        if ($owner !== '' && Keyspace::bucketOf($owner) !== \substr($token->handle(), 0, 4)) {
            $owner = ''; // the record is malformed
        }
        $keys = $owner === '' ? [$key] : [$key, $this->keys->index($owner)];
        $attempt = Text::hash(\random_bytes(16));
        $reply = $this->connection->script('end', $keys, [$attempt, $this->replication()->isRequired() ? '1' : '0'], true);
        $this->replication()->wait($key);
        return match ($reply[0]) {
            'ok' => ((int) $reply[2]) === 1 ? 'ended' : 'none',
            'moved' => 'moved',
            default => throw Reply::failure($token->handle(), $reply),
        };
    }

    // Users

    private function replication(): Replication
    {
        return $this->replication ??= new Replication($this->connection, $this->replicas, $this->replicaTimeout);
    }

    /** @internal */
    public function users(): UserSessions
    {
        return $this->users ??= new UserSessions($this->connection, $this->keys, $this->replication());
    }

    /** @internal */
    public function userData(): UserDataStore
    {
        return $this->userData ??= new UserDataStore($this, $this->connection, $this->keys);
    }

    /** @internal */
    public function signIn(): SignIn
    {
        return new SignIn($this, $this->connection, $this->keys, $this->users());
    }
}
