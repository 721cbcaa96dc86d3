<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Json;
use PHPUnit\Framework\AssertionFailedError;
use PHPUnit\Framework\TestCase;

/** Runs format/contract with the step program. */
final class ContractTest extends TestCase
{
    /**
     * @var array<int, array{resource, resource, resource}> programs by how far their clock is ahead
     */
    private static array $programs = [];
    private static int $id = 0;
    private static int $ran = 0;
    /** @var list<string> */
    private static array $leftOut = [];

    /** @var array<string, array{token: ?string, handle: ?string}> */
    private array $visitors = [];
    private string $namespace = '';
    private array $scenario = [];

    public static function tearDownAfterClass(): void
    {
        foreach (self::$programs as [$process, $in, $out]) {
            fclose($in);
            fclose($out);
            self::assertSame(0, proc_close($process), 'the program ends with status 0');
        }
        self::$programs = [];
        $out = self::$leftOut === [] ? '' : ', left out: ' . implode(', ', self::$leftOut);
        fwrite(STDERR, "\ncontract: " . self::$ran . " scenarios$out\n");
    }

    public static function scenarios(): iterable
    {
        foreach (['fields', 'limits', 'sessions', 'users', 'user-data', 'hostile', 'together'] as $file) {
            $text = file_get_contents(dirname(__DIR__, 3) . "/format/contract/$file.json");
            foreach (Json::decode($text, $file)['scenarios'] as $scenario) {
                yield "$file: {$scenario['name']}" => [$scenario];
            }
        }
    }

    /** @dataProvider scenarios */
    public function testScenario(array $scenario): void
    {
        $needs = (array) ($scenario['needs'] ?? []);
        $server = RedisServer::shared();
        if (in_array('own server', $needs, true)) {
            $server = RedisServer::start();
        }
        if (in_array('clock', $needs, true) && self::which('faketime') === null) {
            self::$leftOut[] = $scenario['name'];
            self::fail('faketime is not installed: run clients/php/test, which installs it');
        }
        self::$ran++;
        $this->scenario = $scenario;
        $this->namespace = 'php' . bin2hex(random_bytes(8));
        $this->visitors = [];
        foreach ($scenario['steps'] as $i => $step) {
            $this->step($server, $step, "{$scenario['name']}, step $i");
        }
    }

    private static function which(string $program): ?string
    {
        foreach (explode(':', (string) getenv('PATH')) as $folder) {
            if (is_executable("$folder/$program")) {
                return "$folder/$program";
            }
        }
        return null;
    }

    private function step(RedisServer $server, array $step, string $where): void
    {
        if (isset($step['wait_ms'])) {
            usleep($step['wait_ms'] * 1000);
        } elseif (isset($step['token'])) {
            $text = $this->fill($step['text'], 0);
            if (isset($step['cut'])) {
                $text = substr($text, $step['cut'][0], $step['cut'][1] - $step['cut'][0]);
            }
            $this->visitors[$step['token']] = ['token' => $this->fill($step['before'] ?? '', 0) . $text] + ($this->visitors[$step['token']] ?? ['handle' => null]);
        } elseif (isset($step['redis'])) {
            $words = array_map(fn (mixed $w): string => $this->fill((string) $w, 0), $step['redis']);
            $this->attempt($step, fn () => $this->redis($server, $words, $step, $where));
        } elseif (isset($step['at once'])) {
            $this->atOnce($server, $step, $where);
        } else {
            $this->attempt($step, fn () => $this->request($server, $step, $where));
        }
    }

    /** Makes a step, and again if the step asks for that, until it comes out as wanted. */
    private function attempt(array $step, callable $make): void
    {
        $end = hrtime(true) + (($step['repeat'] ?? false) ? 30_000_000_000 : 0);
        while (hrtime(true) < $end) {
            try {
                $make();
                return;
            } catch (AssertionFailedError) {
                usleep(10_000);
            }
        }
        $make();
    }

    private function redis(RedisServer $server, array $words, array $step, string $where): void
    {
        try {
            if (($step['everywhere'] ?? false) && $server->isCluster()) {
                $cluster = new \RedisCluster(null, explode(',', substr($server->url, strlen('redis-cluster://'))), 2.0, 5.0);
                foreach ($cluster->_masters() as $node) {
                    $reply = $cluster->rawCommand($node, ...$words);
                }
            } else {
                $reply = $server->command(...$words);
            }
        } catch (\RedisException $e) {
            $reply = $e->getMessage();
        }
        if (array_key_exists('want', $step)) {
            $want = $step['want'] === 'OK' ? true : $this->fillAll($step['want']);
            self::assertTrue($this->same($want, $reply), "$where: " . json_encode([$step['redis'], $reply]));
        }
    }

    private function request(RedisServer $server, array $step, string $where): void
    {
        $want = $this->fillAll($step['want'] ?? []);
        $unchanged = isset($step['unchanged']) ? $this->fill("<key {$step['unchanged']}>", 0) : null;
        $before = $unchanged === null ? null : self::sorted($server->hash($unchanged));
        $at = $this->send($server, $step['as'] ?? null, $step['on'] ?? 'a', $step, 0);
        $reply = $this->receive($at);
        $this->remember($step['as'] ?? null, $reply);
        self::assertTrue($this->meets($want, $reply), "$where: want " . json_encode($want) . ', got ' . json_encode($reply));
        if ($unchanged !== null) {
            self::assertSame($before, self::sorted($server->hash($unchanged)), "$where: the session has changed");
        }
    }

    private static function sorted(array $hash): array
    {
        ksort($hash, SORT_STRING);
        return $hash;
    }

    private function atOnce(RedisServer $server, array $step, string $where): void
    {
        $want = $this->fillAll($step['want'] ?? []);
        $sent = [];
        $requests = [];
        foreach ($step['at once'] as $element) {
            $i = 0;
            foreach ((array) ($element['as'] ?? [null]) as $visitor) {
                for ($n = 0; $n < ($element['times'] ?? 1); $n++, $i++) {
                    $on = (array) ($element['on'] ?? 'a');
                    $requests[] = [$visitor, $on[$i % count($on)], $element, $i];
                }
            }
        }
        foreach ($requests as [$visitor, $on, $element, $i]) {
            $sent[] = [$visitor, $this->send($server, $visitor, $on, $element, $i)];
        }
        $this->collect($sent);
        $matched = array_fill(0, count($want), 0);
        foreach ($sent as [$visitor, $at]) {
            $reply = $this->receive($at);
            $this->remember($visitor, $reply);
            $some = false;
            foreach ($want as $j => $entry) {
                if ($this->meets($entry, $reply)) {
                    $matched[$j]++;
                    $some = true;
                }
            }
            self::assertTrue($some || $want === [], "$where: no entry wants " . json_encode($reply));
        }
        if ($step['distinct'] ?? false) {
            $values = array_map(fn (array $s): string => json_encode($this->receive($s[1])['values'] ?? null), $sent);
            self::assertCount(count($sent), array_unique($values), "$where: two replies have the same values");
        }
        foreach ($want as $j => $entry) {
            [$least, $most] = is_array($entry['times'] ?? null) ? $entry['times'] : [$entry['times'] ?? 0, $entry['times'] ?? PHP_INT_MAX];
            self::assertTrue($matched[$j] >= $least && $matched[$j] <= $most, "$where: {$matched[$j]} replies match " . json_encode($entry));
            if (isset($entry['counted'])) {
                [$visitor, $counter] = $entry['counted'];
                $first = (string) array_key_first((array) ($this->scenario['clients'] ?? ['a' => []]));
                $reply = $this->receive($this->send($server, $visitor, $first, ['do' => [['count', $counter]]], 0));
                self::assertSame([(string) $matched[$j]], $reply['values'] ?? null, "$where: the counter of {$entry['counted'][0]}: " . json_encode($reply));
            }
        }
    }

    /** @var array<int, array> replies that were read before they were wanted */
    private array $replies = [];

    /** @return array{int, int} the program and the id */
    private function send(RedisServer $server, ?string $visitor, string $on, array $step, int $i): array
    {
        $options = $this->fillAll(($this->scenario['clients'] ?? [])[$on] ?? []);
        $client = ['name' => $on, 'namespace' => $this->namespace]
            + (array) $options + $this->fillAll($this->scenario['options'] ?? []) + ['url' => $server->url];
        $clock = $client['clock_ms'] ?? 0;
        $request = ['id' => ++self::$id, 'client' => $client] + array_intersect_key($step, ['request' => 0, 'open' => 0]);
        if (isset($request['request'])) {
            $request['request'] = $this->namespace . $request['request'];
        }
        $request['do'] = array_map(fn (array $action): array => array_map(fn (mixed $v): mixed => $this->fillAll($v, $i), $action), $step['do'] ?? []);
        $token = $visitor === null ? null : $this->visitors[$visitor]['token'] ?? null;
        if ($token !== null) {
            $request['token'] = $token;
        }
        [, $in] = self::$programs[$clock] ??= $this->program($clock);
        fwrite($in, Json::encode($request, 'request') . "\n");
        return [$clock, $request['id']];
    }

    /** @return array{resource, resource, resource} */
    private function program(int $clock): array
    {
        $command = [dirname(__DIR__) . '/contract'];
        $environment = null;
        if ($clock !== 0) {
            $command = ['faketime', '-f', sprintf('%+.3fs', $clock / 1000), ...$command];
            $environment = ['DONT_FAKE_MONOTONIC' => '1', 'FAKETIME_DONT_FAKE_MONOTONIC' => '1'] + getenv();
        }
        $process = proc_open($command, [['pipe', 'r'], ['pipe', 'w'], STDERR], $pipes, null, $environment);
        return [$process, $pipes[0], $pipes[1]];
    }

    /**
     * Reads all replies, so that the pipe does not fill up.
     * @param list<array{?string, array{int, int}}> $sent
     */
    private function collect(array $sent): void
    {
        foreach ($sent as [, $at]) {
            $this->replies[$at[1]] = $this->receive($at);
        }
    }

    /** @param array{int, int} $at */
    private function receive(array $at): array
    {
        [$clock, $id] = $at;
        while (!isset($this->replies[$id])) {
            $line = fgets(self::$programs[$clock][2]);
            if ($line === false) {
                self::fail('the program has ended');
            }
            $reply = Json::decode($line, 'reply');
            $this->replies[$reply['id']] = $reply;
        }
        return $this->replies[$id];
    }

    private function remember(?string $visitor, array $reply): void
    {
        if ($visitor === null) {
            return;
        }
        $this->visitors[$visitor] ??= ['token' => null, 'handle' => null];
        if (array_key_exists('token', $reply)) {
            $this->visitors[$visitor]['token'] = $reply['token'];
            $this->visitors[$visitor]['handle'] = $reply['session'] ?? $this->visitors[$visitor]['handle'];
        }
    }

    private function meets(array $want, array $reply): bool
    {
        $outcomes = (array) ($want['outcome'] ?? 'ok');
        if (!in_array($reply['outcome'], $outcomes, true)) {
            return false;
        }
        if (isset($want['values']) && $reply['outcome'] === 'ok' && !$this->same($want['values'], $reply['values'])) {
            return false;
        }
        if (isset($want['session']) && (is_bool($want['session']) ? ($reply['session'] !== null) !== $want['session'] : $reply['session'] !== $want['session'])) {
            return false;
        }
        $token = array_key_exists('token', $reply) ? ($reply['token'] === null ? 'deleted' : 'set') : 'none';
        return !isset($want['token']) || $want['token'] === $token;
    }

    /** Compares JSON. */
    private function same(mixed $want, mixed $got): bool
    {
        if ((is_int($want) || is_float($want)) && (is_int($got) || is_float($got))) {
            return (float) $want === (float) $got;
        }
        $isObject = fn (mixed $v): bool => $v instanceof \ArrayObject || is_array($v) && !array_is_list($v);
        if ($isObject($want) !== $isObject($got)) {
            return false;
        }
        [$want, $got] = array_map(fn (mixed $v): mixed => $v instanceof \ArrayObject ? $v->getArrayCopy() : $v, [$want, $got]);
        if (!is_array($want) || !is_array($got)) {
            return $want === $got;
        }
        ksort($want, SORT_STRING);
        ksort($got, SORT_STRING);
        if (array_keys($want) !== array_keys($got)) {
            return false;
        }
        foreach ($want as $k => $v) {
            if (!$this->same($v, $got[$k])) {
                return false;
            }
        }
        return true;
    }

    private function fillAll(mixed $v, int $i = 0): mixed
    {
        return match (true) {
            is_string($v) => $this->fill($v, $i),
            is_array($v) => array_map(fn (mixed $inner): mixed => $this->fillAll($inner, $i), $v),
            default => $v,
        };
    }

    private function fill(string $text, int $i): string
    {
        return preg_replace_callback('/<(ns|i|(token|handle|key) (\w+))>/', function (array $m) use ($i): string {
            $visitor = $this->visitors[$m[3] ?? ''] ?? ['token' => null, 'handle' => null];
            $handle = (string) $visitor['handle'];
            return match ($m[2] ?? $m[1]) {
                'ns' => $this->namespace,
                'i' => (string) $i,
                'token' => (string) $visitor['token'],
                'handle' => $handle,
                default => $handle === '' ? '' : "$this->namespace:{" . substr($handle, 0, 4) . '}:s:' . substr($handle, 5),
            };
        }, $text);
    }
}
