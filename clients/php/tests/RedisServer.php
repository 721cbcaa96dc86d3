<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

/**
 * A redis-server of the tests' own, in a temporary directory. It ends with the process that made
 * it.
 */
final class RedisServer
{
    private static ?self $shared = null;
    private static ?self $single = null;

    /** @var resource|null */
    private $process = null;
    private readonly int $owner;

    private function __construct(public readonly string $url, private readonly string $directory, private readonly array $options)
    {
        $this->owner = (int) getmypid();
    }

    /** The server that all tests share, or that of COATCHECK_TEST_REDIS. */
    public static function shared(): self
    {
        return self::$shared ??= ($url = (string) getenv('COATCHECK_TEST_REDIS')) !== '' ? new self($url, '', []) : self::start();
    }

    /** The same, but never a Cluster. */
    public static function single(): self
    {
        return self::shared()->isCluster() ? self::$single ??= self::start() : self::shared();
    }

    public static function start(string ...$options): self
    {
        $directory = sys_get_temp_dir() . '/coatcheck-php-' . bin2hex(random_bytes(6));
        mkdir($directory, 0700);
        $server = new self('redis://127.0.0.1:' . self::freePort(), $directory, array_values($options));
        $server->run();
        register_shutdown_function(fn () => $server->remove());
        return $server;
    }

    public static function freePort(): int
    {
        $socket = stream_socket_server('tcp://127.0.0.1:0');
        $name = stream_socket_get_name($socket, false);
        fclose($socket);
        return (int) substr($name, strrpos($name, ':') + 1);
    }

    public function port(): int
    {
        return (int) parse_url($this->url, PHP_URL_PORT);
    }

    public function run(): void
    {
        $log = ['file', "$this->directory/log", 'a'];
        $command = ['redis-server', '--port', (string) $this->port(), '--bind', '127.0.0.1', '--save', '', '--dir', $this->directory, ...$this->options];
        $this->process = proc_open($command, [['file', '/dev/null', 'r'], $log, $log], $pipes);
        for ($i = 0; $i < 1500; $i++) {
            try {
                $this->client()->rawCommand('PING');
                return;
            } catch (\RedisException) {
                usleep(10_000);
            }
        }
        throw new \RuntimeException('redis-server does not start: ' . file_get_contents("$this->directory/log"));
    }

    public function stop(): void
    {
        if ($this->process !== null) {
            proc_terminate($this->process, SIGKILL);
            proc_close($this->process);
            $this->process = null;
        }
    }

    /** Suspends the server: it takes no command until resume(). */
    public function pause(): void
    {
        posix_kill(proc_get_status($this->process)['pid'], SIGSTOP);
    }

    public function resume(): void
    {
        posix_kill(proc_get_status($this->process)['pid'], SIGCONT);
    }

    private function remove(): void
    {
        if ($this->owner !== getmypid()) {
            return;
        }
        $this->stop();
        if ($this->directory === '') {
            return;
        }
        $all = new \RecursiveIteratorIterator(
            new \RecursiveDirectoryIterator($this->directory, \FilesystemIterator::SKIP_DOTS), \RecursiveIteratorIterator::CHILD_FIRST,
        );
        foreach ($all as $file) {
            $file->isDir() ? rmdir((string) $file) : unlink((string) $file);
        }
        rmdir($this->directory);
    }

    public function isCluster(): bool
    {
        return str_starts_with($this->url, 'redis-cluster:');
    }

    /** A connection of the test's own. */
    public function client(): \Redis
    {
        $redis = new \Redis();
        $redis->connect('127.0.0.1', $this->port(), 2.0, null, 0, 10.0);
        return $redis;
    }

    /** A command on the key's server. The reply of a nil is null, and an error is an exception. */
    public function command(string ...$words): mixed
    {
        static $clients = [];
        if ($this->isCluster()) {
            $nodes = explode(',', substr($this->url, strlen('redis-cluster://')));
            $client = $clients[$this->url] ??= new \RedisCluster(null, $nodes, 2.0, 10.0);
            $at = in_array(strtoupper($words[0]), ['EVAL', 'EVALSHA'], true) ? 3 : 1;
            $client->clearLastError();
            $reply = $client->rawCommand($words[$at] ?? 'any', ...$words);
        } else {
            $client = $this->client();
            $reply = $client->rawCommand(...$words);
        }
        if ($reply === false && $client->getLastError() !== null) {
            throw new \RuntimeException((string) $client->getLastError());
        }
        return $reply === false ? null : $reply;
    }

    /** @return array<array-key, string> */
    public function hash(string $key): array
    {
        $flat = $this->command('HGETALL', $key);
        $hash = [];
        for ($i = 0; $i < count($flat); $i += 2) {
            $hash[$flat[$i]] = $flat[$i + 1];
        }
        return $hash;
    }
}
