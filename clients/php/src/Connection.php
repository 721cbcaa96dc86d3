<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Sends commands with phpredis, so that no trap of it is met:
 *
 * - rawCommand sends keys and values as they are. The options for a prefix, a serializer and
 *   compression, which an application may have set on its object, do not apply.
 * - phpredis returns false for an error as for a missing value. Here an error is an exception.
 * - After a timeout phpredis keeps the connection, and the next command gets the reply of the
 *   previous one. Here the connection is closed.
 * - A connection must not be shared with a forked process: their replies would mix.
 *
 * phpredis does not repeat a command that it has sent.
 *
 * @internal
 */
final class Connection
{
    private const NOT_RUN = '/\A(MOVED|ASK|TRYAGAIN|LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|WRONGTYPE|NOPERM|NOAUTH|OOM)\b/';

    private const LEFTOVER = 'the connection had a reply to another request';

    private \Redis|\RedisCluster|null $redis = null;
    private readonly ?\Closure $connect;
    private int $process = 0;
    private bool $checked = false;
    /** @var list<object> of other processes; kept, so that their destructors do not run */
    private array $abandoned = [];

    /**
     * The closure connects by pconnect, and phpredis does not check the connection: a reply to
     * another request may be left in it, and another database than 0 be selected.
     */
    public bool $isPooled = false;

    /** @param float $timeout how long to repeat what certainly did not run, in seconds */
    public function __construct(\Redis|\RedisCluster|\Closure $redis, private readonly float $timeout)
    {
        $this->connect = $redis instanceof \Closure ? $redis : null;
        if (!$redis instanceof \Closure) {
            $this->redis = $this->checked($redis);
            $this->process = (int) \getmypid();
        }
    }

    private function redis(): \Redis|\RedisCluster
    {
        if ($this->redis !== null && $this->process !== \getmypid()) {
            if ($this->connect === null) {
                throw new SessionException(
                    Problem::Unavailable,
                    'the connection belongs to the parent process: give the Store a closure that connects',
                );
            }
            $this->abandoned[] = $this->redis;
            $this->redis = null;
        }
        if ($this->redis === null) {
            if ($this->connect === null) {
                throw new SessionException(Problem::Unavailable, 'there is no connection');
            }
            try {
                $this->redis = $this->checked(($this->connect)());
            } catch (\RedisException | \RedisClusterException $e) {
                throw new SessionException(Problem::Unavailable, "cannot connect: {$e->getMessage()}", $e);
            }
            $this->process = (int) \getmypid();
            $this->checked = !$this->isPooled;
        }
        return $this->redis;
    }

    private function checked(\Redis|\RedisCluster $redis): \Redis|\RedisCluster
    {
        if ($redis instanceof \RedisCluster && $redis->getOption(\RedisCluster::OPT_SLAVE_FAILOVER) !== \RedisCluster::FAILOVER_NONE) {
            throw new \InvalidArgumentException(
                'session: OPT_SLAVE_FAILOVER must be FAILOVER_NONE: a replica may still have a session that ended',
            );
        }
        return $redis;
    }

    public function isCluster(): bool
    {
        return $this->redis() instanceof \RedisCluster;
    }

    /** @return list<array{string, int}> the primaries of a Cluster */
    public function primaries(): array
    {
        $redis = $this->redis();
        return $redis instanceof \RedisCluster ? $redis->_masters() : [];
    }

    /** Closes the connection. The next command opens it again. */
    private function drop(): void
    {
        $redis = $this->redis;
        if ($this->connect !== null) {
            $this->redis = null;
        }
        try {
            $redis?->close();
        } catch (\RedisException | \RedisClusterException) {
        }
    }

    /**
     * Sends commands in one round trip, on a Cluster one by one. Each is a list of a key, which
     * says where to send it, and the words of the command. The replies may be ReplyErrors.
     *
     * @param list<array{string|array{string, int}, list<string>}> $commands
     * @return list<mixed>
     */
    public function send(array $commands): array
    {
        $redis = $this->redis();
        if ($redis->getMode() !== \Redis::ATOMIC) {
            throw new SessionException(Problem::Unavailable, 'the application\'s connection is in a transaction or a pipeline');
        }
        if ($redis instanceof \RedisCluster || \count($commands) === 1) {
            if (!$this->checked) {
                $redis = $this->withoutLeftover($redis);
            }
            return \array_map(fn (array $command): mixed => $this->one($redis, ...$command), $commands);
        }
        $nonce = $this->checked ? '' : \bin2hex(\random_bytes(8));
        $redis->clearLastError();
        try {
            $redis->pipeline();
            if ($nonce !== '') {
                $redis->rawCommand('ECHO', $nonce);
                $redis->rawCommand('SELECT', '0');
            }
            foreach ($commands as [, $words]) {
                $redis->rawCommand(...$words);
            }
            $replies = $redis->exec();
        } catch (\RedisException $e) {
            $this->drop(); // replies may be left in it
            if (self::isReply($e)) {
                return \array_map(fn (): ReplyError => new ReplyError($e->getMessage()), $commands);
            }
            throw new SessionException(Problem::UnknownOutcome, $e->getMessage(), $e);
        }
        $error = $redis->getLastError();
        if ($nonce !== '' && \is_array($replies) && \array_splice($replies, 0, 2) !== [$nonce, true]) {
            $this->drop();
            throw new SessionException(Problem::UnknownOutcome, self::LEFTOVER);
        }
        $this->checked = true;
        if (!\is_array($replies) || \count($replies) !== \count($commands)) {
            $this->drop();
            throw new SessionException(Problem::UnknownOutcome, 'the reply is no list');
        }
        if ($error !== null) {
            // Which of the false replies is the error is not known: treat all as one.
            return \array_map(fn (mixed $r): mixed => $r === false ? new ReplyError($error) : $r, $replies);
        }
        return $replies;
    }

    /**
     * Returns a connection on which the next reply is that to the next command. A process that was
     * killed, or a script that ran out of time, may have left one in it.
     */
    private function withoutLeftover(\Redis|\RedisCluster $redis): \Redis|\RedisCluster
    {
        for ($tries = 1; $tries <= 2; $tries++) {
            $nonce = \bin2hex(\random_bytes(8));
            try {
                if ($this->one($redis, '', ['ECHO', $nonce]) === $nonce && $this->one($redis, '', ['SELECT', '0']) === true) {
                    $this->checked = true;
                    return $redis;
                }
                $this->drop();
            } catch (SessionException) { // the connection was lost, maybe long ago
            }
            $redis = $this->redis();
        }
        throw new SessionException(Problem::Unavailable, self::LEFTOVER);
    }

    /**
     * @param string|array{string, int} $key
     * @param list<string> $words
     */
    private function one(\Redis|\RedisCluster $redis, string|array $key, array $words): mixed
    {
        $redis->clearLastError();
        try {
            $reply = $redis instanceof \RedisCluster ? $redis->rawCommand($key, ...$words) : $redis->rawCommand(...$words);
        } catch (\RedisException | \RedisClusterException $e) {
            if (self::isReply($e)) {
                if (\preg_match('/\A(READONLY|MASTERDOWN)\b/', $e->getMessage()) === 1) {
                    $this->drop(); // it is no primary any more: connect to the new one
                }
                return new ReplyError($e->getMessage());
            }
            if (\str_contains($e->getMessage(), 'CLUSTERDOWN')) {
                return new ReplyError('CLUSTERDOWN ' . $e->getMessage());
            }
            $this->drop();
            throw new SessionException(Problem::UnknownOutcome, $e->getMessage(), $e);
        }
        $error = $redis->getLastError();
        $reply ??= false; // RedisCluster replies null for a nil
        return $reply === false && $error !== null ? new ReplyError($error) : $reply;
    }

    /**
     * phpredis throws some replies of the server. Its own messages do not begin with such a word.
     */
    private static function isReply(\Exception $e): bool
    {
        return \preg_match('/\A[A-Z]{3,}\b/', $e->getMessage()) === 1;
    }

    /**
     * Sends commands that change nothing. It repeats them once after a lost connection, which may
     * have been lost long ago.
     *
     * @param list<array{string|array{string, int}, list<string>}> $commands
     * @return list<mixed>
     */
    public function read(array $commands): array
    {
        $until = \hrtime(true) + (int) ($this->timeout * 1e9);
        $retry = null;
        while (true) {
            try {
                $replies = $this->send($commands);
                foreach ($replies as $reply) {
                    if ($reply instanceof ReplyError && \preg_match(Retry::TRANSIENT, $reply->message) === 1) {
                        throw new SessionException(Problem::Unavailable, $reply->message);
                    }
                }
                return $replies;
            } catch (SessionException $e) {
                $retry ??= new Retry($until, true, Problem::Unavailable);
                $retry->after($e);
            }
        }
    }

    /**
     * Runs a script. Without $repeatable it is sent again only if it certainly did not run.
     *
     * @param list<string> $keys
     * @param list<string> $arguments
     * @param list<mixed>|null $moving the reply to return while the slot moves to another server.
     *     Default: it is tried again
     * @return list<mixed> the reply: a status, and what belongs to it. A nil is false
     */
    public function script(string $name, array $keys, array $arguments, bool $repeatable, ?array $moving = null): array
    {
        $words = ['EVALSHA', Scripts::SHA1[$name], (string) \count($keys), ...$keys, ...$arguments];
        $until = \hrtime(true) + (int) ($this->timeout * 1e9);
        $retry = null;
        while (true) {
            try {
                return $this->run($name, $keys[0], $words);
            } catch (SessionException $e) {
                if ($moving !== null && \str_contains($e->getMessage(), 'TRYAGAIN')) {
                    return $moving;
                }
                $retry ??= new Retry($until, $repeatable);
                $retry->after($e);
            }
        }
    }

    /**
     * @param list<string> $words
     * @return list<mixed>
     */
    private function run(string $name, string $key, array $words): array
    {
        [$reply] = $this->send([[$key, $words]]);
        if ($reply instanceof ReplyError && \str_starts_with($reply->message, 'NOSCRIPT')) {
            [$reply] = $this->send([[$key, ['EVAL', Scripts::source($name), ...\array_slice($words, 2)]]]);
        }
        if ($reply instanceof ReplyError) {
            $notRun = \preg_match(self::NOT_RUN, $reply->message) === 1;
            throw new SessionException($notRun ? Problem::Unavailable : Problem::UnknownOutcome, $reply->message);
        }
        if (!\is_array($reply) || !\is_string($reply[0] ?? null)) {
            throw new SessionException(Problem::UnknownOutcome, 'the script has replied something else');
        }
        return $reply;
    }

    // What replies have

    /** @return array<array-key, string>|null the names and values of a hash; null for an error */
    public static function pairs(mixed $reply): ?array
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

    /** Returns the time in the reply to TIME. */
    public static function milliseconds(mixed $time): int
    {
        if (!\is_array($time)) {
            throw new SessionException(Problem::Unavailable, $time instanceof ReplyError ? $time->message : 'TIME has no reply');
        }
        return (int) $time[0] * 1000 + \intdiv((int) $time[1], 1000);
    }
}
