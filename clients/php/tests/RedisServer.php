<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

/**
 * A redis-server of the tests' own, in a temporary directory. It ends with the process that made
 * it.
 */
final class RedisServer
{
    /** Seconds that a test waits for a reply. Only a server that never replies takes so long. */
    public const PATIENCE = 60.0;

    private static ?self $shared = null;
    private static ?self $single = null;

    /** @var resource|null */
    private $process = null;
    private readonly int $owner;
    private \Redis|\RedisCluster|null $commands = null;

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
        for ($tries = 1; ; $tries++) {
            $server = new self('redis://127.0.0.1:' . self::freePort(), $directory, array_values($options));
            try {
                $server->run();
                break;
            } catch (\RuntimeException $e) { // another process has taken the port
                if ($tries === 5) {
                    throw $e;
                }
            }
        }
        register_shutdown_function(fn () => $server->remove());
        return $server;
    }

    /**
     * A port that is free, and stays so while a test restarts its server. It is below the ports
     * that Linux gives to clients and to tests that ask for any port, and so is the port of a
     * Cluster's bus, which is higher by 10,000.
     */
    public static function freePort(): int
    {
        while (true) {
            $port = random_int(12_000, 22_000);
            $socket = @stream_socket_server("tcp://127.0.0.1:$port");
            if ($socket !== false) {
                fclose($socket);
                return $port;
            }
        }
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
        try {
            Await::that('redis-server takes commands', $this->takesCommands(...));
        } catch (\RuntimeException $e) {
            $this->stop();
            throw new \RuntimeException("{$e->getMessage()}: " . file_get_contents("$this->directory/log"), 0, $e);
        }
    }

    private function takesCommands(): bool
    {
        ['running' => $running, 'pid' => $pid] = proc_get_status($this->process);
        if (!$running) {
            throw new \RuntimeException('redis-server has ended');
        }
        try {
            $client = $this->client();
            // Another process's server may have the port. Then this one ends.
            return str_contains((string) $client->rawCommand('INFO', 'server'), "process_id:$pid\r\n")
                && $client->rawCommand('PING') !== false;
        } catch (\RedisException) {
            return false;
        }
    }

    public function stop(): void
    {
        $this->commands = null;
        if ($this->process !== null) {
            proc_terminate($this->process, SIGKILL);
            proc_close($this->process);
            $this->process = null;
        }
    }

    /** Suspends the server: it takes no command until resume(). */
    public function pause(): void
    {
        $pid = proc_get_status($this->process)['pid'];
        posix_kill($pid, SIGSTOP);
        Await::that('the server is stopped', fn (): bool => preg_match('/\) T/', (string) file_get_contents("/proc/$pid/stat")) === 1);
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
        $redis->connect('127.0.0.1', $this->port(), self::PATIENCE, null, 0, self::PATIENCE);
        return $redis;
    }

    /** A command on the key's server. The reply of a nil is null, and an error is an exception. */
    public function command(string ...$words): mixed
    {
        $client = $this->commands ??= $this->isCluster()
            ? new \RedisCluster(null, explode(',', substr($this->url, strlen('redis-cluster://'))), self::PATIENCE, self::PATIENCE)
            : $this->client();
        $client->clearLastError();
        if ($client instanceof \RedisCluster) {
            $at = in_array(strtoupper($words[0]), ['EVAL', 'EVALSHA'], true) ? 3 : 1;
            $reply = $client->rawCommand($words[$at] ?? 'any', ...$words);
        } else {
            $reply = $client->rawCommand(...$words);
        }
        if ($reply === false && $client->getLastError() !== null) {
            throw new \RuntimeException((string) $client->getLastError());
        }
        return $reply === false ? null : $reply;
    }

    /** The server's time, in milliseconds. */
    public function time(): int
    {
        [$seconds, $micros] = $this->command('TIME');
        return (int) $seconds * 1000 + intdiv((int) $micros, 1000);
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
