<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Connection;
use Coatcheck\Session\SessionException;
use Coatcheck\Session\Text;
use PHPUnit\Framework\TestCase;

/** format/vectors/changes.json and scripts.json: what the Lua scripts do. */
final class ScriptVectorsTest extends TestCase
{
    public static function tearDownAfterClass(): void
    {
        Vectors::report();
    }

    public function testChanges(): void
    {
        $server = RedisServer::single();
        foreach (Vectors::all('changes') as $v) {
            Vectors::ran('changes');
            $this->runScript($server, 'apply', ['{vector}:change'], $v['args'], ['{vector}:change' => $v['before']], $v['reply'], ['{vector}:change' => $v['after']], $v['name']);
            self::assertSame($this->arguments($v['change'], $v['args'][3], $v['args'][2]), $v['args'], $v['name']);
        }
    }

    /** The arguments of apply.lua that follow from a change. */
    private function arguments(array $change, string $flags, string $global): array
    {
        $arguments = [$change['verifier'], (string) $change['max_size'], $global, substr($flags, 0, 2) . ($change['issued'] ? '1' : '0')];
        $renew = $change['renew'];
        if ($renew !== null) {
            $rotates = $renew['grace_ms'] > 0;
            array_push(
                $arguments, $rotates ? 'rotate' : 'renew', $renew['verifier'],
                $rotates ? (string) $renew['grace_ms'] : '', $rotates ? (string) $renew['min_age_ms'] : '',
            );
        }
        foreach ($change['ops'] as $op) {
            $optional = fn (?string $text): string => $text === null ? '' : "=$text";
            array_push($arguments, $op['kind'], $op['key'] ?? '', ...match ($op['kind']) {
                'set' => [$op['value'], ''],
                'add' => [$op['delta'], isset($op['min']) ? "{$op['min']} {$op['max']}" : ''],
                'swap' => [$optional($op['old']), $optional($op['value'])],
                'limit' => [$op['max'], ''],
                default => ['', ''],
            });
        }
        return $arguments;
    }

    public function testScripts(): void
    {
        $server = RedisServer::single();
        foreach (Vectors::all('scripts') as $v) {
            Vectors::ran('scripts');
            $this->runScript($server, basename($v['script'], '.lua'), $v['keys'], $v['args'], $v['before'], $v['reply'], $v['after'], "{$v['script']}: {$v['name']}");
        }
    }

    /**
     * @param array<string, array> $before
     * @param array<string, array> $after
     */
    private function runScript(
        RedisServer $server, string $script, array $keys, array $args, array $before, array $reply, array $after, string $name,
    ): void {
        $connection = new Connection(fn () => $server->client(), RedisServer::PATIENCE);
        [$now, $got, $contents] = Vectors::atOneMoment($server, function (int $now) use ($server, $connection, $script, $keys, $args, $before, $after): array {
            foreach ([...array_keys($before), ...array_keys($after), ...$keys] as $key) {
                $server->command('DEL', $key);
            }
            foreach ($this->filled($before, $now) as $key => $content) {
                $this->store($server, (string) $key, $content ?? []);
            }
            try {
                $got = $connection->script($script, $keys, $this->filled($args, $now), true);
            } catch (SessionException $e) {
                $got = [preg_match('/[A-Z]{4,} .*/', $e->getMessage(), $m) === 1 ? $m[0] : $e->getMessage()];
            }
            $contents = [];
            foreach (array_keys($after) as $key) {
                $contents[$key] = $this->content($server, (string) $key);
            }
            return [$now, $got, $contents];
        });
        self::assertTrue($this->agrees($this->filled($reply, $now), $got), "$name: " . json_encode([$reply, $got]));
        foreach ($this->filled($after, $now) as $key => $want) {
            $this->checkContent($want ?? [], $contents[$key], "$name: $key");
        }
    }

    /** Fills in the placeholders for times. */
    private function filled(mixed $v, int $now): mixed
    {
        if (is_array($v)) {
            $out = [];
            foreach ($v as $k => $inner) {
                $out[is_string($k) ? $this->filled($k, $now) : $k] = $this->filled($inner, $now);
            }
            return $out;
        }
        if (!is_string($v)) {
            return $v;
        }
        $v = preg_replace_callback('/<([+-]\d+)>/', fn (array $m): string => Text::hex($now + (int) $m[1]), $v);
        return preg_replace_callback('/\[([+-]\d+)\]/', fn (array $m): string => (string) ($now + (int) $m[1]), $v);
    }

    private function store(RedisServer $server, string $key, array $content): void
    {
        $command = function (string $first, array $pairs, bool $swap = false) use ($server, $key): void {
            $flat = [];
            foreach ($pairs as $k => $v) {
                array_push($flat, ...($swap ? [(string) $v, (string) $k] : [(string) $k, (string) $v]));
            }
            if ($flat !== []) {
                $server->command($first, $key, ...$flat);
            }
        };
        $command('HSET', $content['hash'] ?? []);
        $command('ZADD', $content['scores'] ?? [], true);
        foreach ($content['list'] ?? [] as $element) {
            $server->command('RPUSH', $key, $element);
        }
        if (isset($content['text'])) {
            $server->command('SET', $key, $content['text']);
        }
        foreach ($content['stream'] ?? [] as $entry) {
            $server->command('XADD', $key, ...$entry);
        }
        $unknown = array_diff(array_keys($content), ['hash', 'scores', 'list', 'text', 'stream', 'ttl']);
        self::assertSame([], array_values($unknown), 'the content has a kind that this test does not know');
        if (($content['ttl'] ?? 0) > 0) {
            $server->command('PEXPIRE', $key, (string) $content['ttl']);
        } elseif (($content['ttl'] ?? 0) === -1) {
            $server->command('PEXPIRE', $key, '500000000');
        }
    }

    /** What a key has, in the form of the vectors. The ttl is that of PTTL. */
    private function content(RedisServer $server, string $key): array
    {
        $type = [0 => 'none', 1 => 'text', 2 => 'set', 3 => 'list', 4 => 'scores', 5 => 'hash', 6 => 'stream'][$server->client()->type($key)];
        return match ($type) {
            'none' => [],
            'hash' => ['hash' => $server->hash($key)],
            'scores' => ['scores' => self::pairs($server->command('ZRANGE', $key, '0', '-1', 'WITHSCORES'))],
            'stream' => ['stream' => array_map(fn (array $e): array => [$e[0], ...$e[1]], $server->command('XRANGE', $key, '-', '+'))],
            'list' => ['list' => $server->command('LRANGE', $key, '0', '-1')],
            'text' => ['text' => $server->command('GET', $key)],
        } + ['ttl' => (int) $server->command('PTTL', $key)];
    }

    private function checkContent(array $want, array $got, string $name): void
    {
        [$ttl, $gotTtl] = [$want['ttl'] ?? 0, $got['ttl']];
        unset($want['ttl'], $got['ttl']);
        if ($want === []) {
            self::assertSame([], $got, "$name exists");
            return;
        }
        foreach (['hash', 'scores'] as $kind) {
            if (isset($want[$kind], $got[$kind])) {
                ksort($want[$kind], SORT_STRING);
                ksort($got[$kind], SORT_STRING);
            }
        }
        self::assertTrue($this->agrees($want, $got), "$name: " . json_encode([$want, $got]));
        match ($ttl) {
            0 => self::assertSame(-1, $gotTtl, "$name expires"),
            -1 => self::assertGreaterThan(0, $gotTtl, $name),
            default => self::assertEqualsWithDelta($ttl, $gotTtl, Vectors::MOMENT, $name),
        };
    }

    private static function pairs(array $flat): array
    {
        $pairs = [];
        for ($i = 0; $i < count($flat); $i += 2) {
            $pairs[$flat[$i]] = $flat[$i + 1];
        }
        return $pairs;
    }

    /** Compares, and allows for the duration of an observation in times. */
    private function agrees(mixed $want, mixed $got): bool
    {
        if ($want === 'TIME') {
            return is_int($got);
        }
        if (is_array($want)) {
            if (!is_array($got) || count($want) !== count($got)) {
                return false;
            }
            if ($want !== [] && array_is_list($want) && count($want) % 2 === 0 && is_string($want[0]) && str_starts_with($want[0], '@')) {
                [$want, $got] = [self::pairs($want), self::pairs($got)]; // without an order
                ksort($want, SORT_STRING);
                ksort($got, SORT_STRING);
            }
            foreach (array_map(null, array_keys($want), array_keys($got)) as [$w, $g]) {
                if (!$this->agrees((string) $w, (string) $g) || !$this->agrees($want[$w], $got[$g])) {
                    return false;
                }
            }
            return true;
        }
        $want ??= false; // phpredis replies false for nil
        $got ??= false;
        if (is_string($want) && ctype_digit($want) && is_int($got)) {
            // "[+0]" is an integer in a reply.
            $want = (int) $want;
        }
        if (is_int($want) && is_int($got) || is_string($want) && is_string($got) && ctype_digit($want) && ctype_digit($got) && strlen($want) === 13) {
            return abs((int) $want - (int) $got) <= ((int) $want > 1_000_000_000_000 ? Vectors::MOMENT : 0);
        }
        if (!is_string($want) || !is_string($got) || strlen($want) !== strlen($got)) {
            return $want === $got;
        }
        foreach (range(0, max(0, strlen($want) - 12)) as $at) {
            $w = Text::number(substr($want, $at, 12));
            $g = Text::number(substr($got, $at, 12));
            if ($w !== null && $g !== null && $w > 1_600_000_000_000 && abs($w - $g) <= Vectors::MOMENT) {
                $want = substr_replace($want, substr($got, $at, 12), $at, 12);
            }
        }
        return $want === $got;
    }
}
