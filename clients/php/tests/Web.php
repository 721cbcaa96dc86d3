<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

/**
 * A web server with real PHP processes: php-fpm behind nginx if both are installed, else php -S
 * with several workers. It serves tests/www/index.php. The page /ping tells the server's directory.
 */
final class Web
{
    /** @var list<resource> */
    private array $processes = [];
    private int $port = 0;
    private string $script = '';
    private int $workers = 8;
    private bool $preload = false;
    private string $directory = '';
    public string $name = '';

    /** @param array<string, string> $ini settings of PHP */
    public static function start(
        string $redisUrl, bool $fpm = true, array $ini = [], string $script = __DIR__ . '/www/index.php', int $workers = 8,
        bool $preload = false,
    ): self {
        $web = new self();
        $web->preload = $preload;
        $web->script = $script;
        $web->workers = $workers;
        $web->directory = sys_get_temp_dir() . '/coatcheck-web-' . bin2hex(random_bytes(6));
        mkdir($web->directory, 0755);
        $owner = getmypid();
        register_shutdown_function(fn () => $owner === getmypid() ? $web->stop() : null);
        for ($tries = 1; ; $tries++) {
            $web->port = RedisServer::freePort();
            $fpm && $web->hasFpm() ? $web->startFpm($redisUrl, $ini) : $web->startBuiltIn($redisUrl, $ini);
            try {
                Await::that("$web->name answers", $web->answers(...));
                return $web;
            } catch (\RuntimeException $e) { // another process has taken the port
                $log = substr($web->log(), -1000);
                $web->stop();
                if ($tries === 5) {
                    throw new \RuntimeException("{$e->getMessage()}: $log", 0, $e);
                }
                mkdir($web->directory, 0755);
            }
        }
    }

    private function answers(): bool
    {
        foreach ($this->processes as $process) {
            if (!proc_get_status($process)['running']) {
                throw new \RuntimeException("$this->name has ended");
            }
        }
        try {
            return @$this->get('/ping')[1] === $this->directory; // and not a server of another process
        } catch (\RuntimeException) { // nothing listens yet
            return false;
        }
    }

    private function hasFpm(): bool
    {
        return glob('/usr/sbin/php-fpm8*') !== [] && is_executable('/usr/sbin/nginx');
    }

    /** @param array<string, string> $ini */
    private function startBuiltIn(string $redisUrl, array $ini): void
    {
        $this->name = 'php -S';
        $settings = [];
        foreach ($ini + ['display_errors' => '0', 'log_errors' => '1'] as $name => $value) {
            array_push($settings, '-d', "$name=$value");
        }
        $this->run(
            [PHP_BINARY, ...$settings, '-S', "127.0.0.1:$this->port", $this->script],
            ['PHP_CLI_SERVER_WORKERS' => (string) $this->workers, 'COATCHECK_REDIS' => $redisUrl, 'COATCHECK_WEB' => $this->directory],
        );
    }

    /** @param array<string, string> $ini */
    private function startFpm(string $redisUrl, array $ini): void
    {
        $this->name = 'php-fpm and nginx';
        $d = $this->directory;
        $settings = '';
        foreach ($ini + ['display_errors' => '0', 'log_errors' => '1'] as $name => $value) {
            $settings .= "php_admin_value[$name] = $value\n";
        }
        $root = posix_geteuid() === 0 ? "user = root\ngroup = root\n" : '';
        file_put_contents("$d/fpm.conf", "[global]\nerror_log = $d/log\ndaemonize = no\n[www]\n{$root}listen = $d/fpm.sock\n"
            . "pm = static\npm.max_children = $this->workers\ncatch_workers_output = yes\nclear_env = no\n$settings");
        file_put_contents("$d/nginx.conf", "daemon off;\nmaster_process off;\npid $d/nginx.pid;\nerror_log $d/log;\nevents {}\nhttp {\n"
            . "access_log off;\nclient_body_temp_path $d;\nproxy_temp_path $d;\nfastcgi_temp_path $d;\nuwsgi_temp_path $d;\nscgi_temp_path $d;\n"
            . "server {\nlisten 127.0.0.1:$this->port;\nlocation / {\ninclude /etc/nginx/fastcgi_params;\n"
            . "fastcgi_param SCRIPT_FILENAME $this->script;\nfastcgi_read_timeout 300;\nfastcgi_pass unix:$d/fpm.sock;\n}\n}\n}\n");
        $fpm = glob('/usr/sbin/php-fpm8*')[0];
        $preload = ['-d', 'opcache.preload=' . dirname(__DIR__) . '/preload.php', '-d', 'opcache.preload_user=root'];
        $this->run(
            [$fpm, '-y', "$d/fpm.conf", '-O', ...(posix_geteuid() === 0 ? ['-R'] : []), ...($this->preload ? $preload : [])],
            ['COATCHECK_REDIS' => $redisUrl, 'COATCHECK_WEB' => $this->directory],
        );
        $this->run(['/usr/sbin/nginx', '-c', "$d/nginx.conf", '-p', $d], []);
    }

    /**
     * @param list<string> $command
     * @param array<string, string> $environment
     */
    private function run(array $command, array $environment): void
    {
        $log = ['file', "$this->directory/log", 'a'];
        $this->processes[] = proc_open($command, [['file', '/dev/null', 'r'], $log, $log], $pipes, null, $environment + getenv());
    }

    public function stop(): void
    {
        foreach ($this->processes as $process) {
            $pid = proc_get_status($process)['pid'];
            foreach (self::children($pid) as $child) {
                posix_kill($child, SIGTERM);
            }
            proc_terminate($process);
            proc_close($process);
        }
        $this->processes = [];
        array_map(unlink(...), array_filter((array) glob("$this->directory/*"), fn (string $f): bool => !is_dir($f)));
        @rmdir($this->directory);
    }

    /** The CPU time of all PHP workers, in nanoseconds. */
    public function cpu(): int
    {
        $all = 0;
        foreach (self::children(proc_get_status($this->processes[0])['pid']) as $child) {
            $all += (int) explode(' ', (string) file_get_contents("/proc/$child/schedstat"))[0];
        }
        return $all;
    }

    /** @return list<int> the workers of php -S, which do not end with their parent */
    private static function children(int $pid): array
    {
        $text = @file_get_contents("/proc/$pid/task/$pid/children");
        return array_map(intval(...), preg_split('/ /', (string) $text, -1, PREG_SPLIT_NO_EMPTY));
    }

    public function log(): string
    {
        return (string) file_get_contents("$this->directory/log");
    }

    /** @return array{string, string} the header, which has the status line, and the body */
    public function get(string $path, string $cookies = '', string $method = 'GET', array $headers = []): array
    {
        return $this->all([[$path, $cookies, $method, $headers]])[0];
    }

    /**
     * Makes requests at the same time.
     *
     * @param list<array{0: string, 1?: string, 2?: string, 3?: array<string, string>}> $requests
     * @return list<array{string, string}>
     */
    public function all(array $requests): array
    {
        return array_map($this->receive(...), array_map(fn (array $r) => $this->send(...$r), $requests));
    }

    /** Sends a request, and does not wait for the reply. @return resource */
    public function send(string $path, string $cookies = '', string $method = 'GET', array $headers = [])
    {
        $socket = stream_socket_client("tcp://127.0.0.1:$this->port", $code, $message, 60);
        if ($socket === false) {
            throw new \RuntimeException($message);
        }
        $lines = "$method $path HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n" . ($cookies === '' ? '' : "Cookie: $cookies\r\n");
        foreach ($headers as $name => $value) {
            $lines .= "$name: $value\r\n";
        }
        fwrite($socket, "$lines\r\n");
        return $socket;
    }

    /**
     * @param resource $socket
     * @return array{string, string}
     */
    public function receive($socket): array
    {
        stream_set_timeout($socket, 120);
        $reply = explode("\r\n\r\n", (string) stream_get_contents($socket), 2) + [1 => ''];
        fclose($socket);
        return $reply;
    }

    public static function status(string $header): int
    {
        return (int) (explode(' ', $header)[1] ?? 0);
    }

    /**
     * The cookies that a response sets, as a browser sends them; a deleted one is ''.
     * @return array<string, string>
     */
    public static function cookies(string $header): array
    {
        preg_match_all('/^Set-Cookie: ([^=]+)=([^;\r\n]*)/mi', $header, $m);
        return array_combine($m[1], $m[2]);
    }

    public static function jar(array $cookies): string
    {
        return implode('; ', array_map(fn (string $n, string $v): string => "$n=$v", array_keys($cookies), $cookies));
    }
}
