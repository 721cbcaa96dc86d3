<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Connection;
use Coatcheck\Session\Csrf;
use Coatcheck\Session\FormatException;
use Coatcheck\Session\Keys;
use Coatcheck\Session\Principal;
use Coatcheck\Session\Problem;
use Coatcheck\Session\Reading;
use Coatcheck\Session\Record;
use Coatcheck\Session\SessionException;
use Coatcheck\Session\Store;
use Coatcheck\Session\Text;
use Coatcheck\Session\Token;
use PHPUnit\Framework\TestCase;

/** All of format/vectors. */
final class VectorsTest extends TestCase
{
    /** @var array<string, int> */
    private static array $counts = [];

    public static function tearDownAfterClass(): void
    {
        $text = implode(', ', array_map(fn (string $k, int $n): string => "$k $n", array_keys(self::$counts), self::$counts));
        fwrite(STDERR, "\nvectors: $text; in all " . array_sum(self::$counts) . "\n");
    }

    private static function vectors(string $name): array
    {
        $text = file_get_contents(dirname(__DIR__, 3) . "/format/vectors/$name.json");
        return json_decode($text, true, 64, JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING);
    }

    private static function ran(string $name): void
    {
        self::$counts[$name] = (self::$counts[$name] ?? 0) + 1;
    }

    private static function keys(array $v): Keys
    {
        return new Keys(isset($v['key']) ? [hex2bin($v['key'])] : []);
    }

    public function testTokens(): void
    {
        foreach (self::vectors('tokens') as $v) {
            self::ran('tokens');
            $keys = self::keys($v);
            $token = Token::parse($v['token'], $keys);
            self::assertSame($v['valid'], $token instanceof Token, json_encode($v));
            if (!$token instanceof Token) {
                continue;
            }
            self::assertSame($v['selector'], bin2hex($token->selector));
            self::assertSame($v['verifier'], bin2hex($token->verifier));
            self::assertSame($v['generation'] ?? 0, $token->generation);
            self::assertSame($v['bucket'] ?? 0, $token->bucket);
            self::assertSame($v['verifier_hash'], $token->verifierHash());
            self::assertSame($v['handle'], $token->handle());
            if (isset($v['key']) || strlen($v['token']) === 52) {
                self::assertSame($v['token'], $token->text($keys));
            }
        }
    }

    public function testCsrf(): void
    {
        foreach (self::vectors('csrf') as $v) {
            self::ran('csrf');
            $id = Text::encode(hex2bin($v['id']));
            self::assertSame($v['valid'], Csrf::isValid($id, $v['token']), json_encode($v));
            if ($v['valid']) {
                self::assertSame($v['token'], Csrf::token($id, hex2bin($v['pad'])));
            }
        }
    }

    public function testSealed(): void
    {
        foreach (self::vectors('sealed') as $v) {
            self::ran('sealed');
            $keys = self::keys($v);
            $name = $v['name'];
            try {
                $plain = $keys->open($v['id'], $name, $v['sealed']);
                self::assertArrayHasKey('plain', $v, json_encode($v));
                self::assertSame($v['plain'], $plain);
                if (isset($v['nonce'])) {
                    self::assertSame($v['sealed'], $keys->seal($v['id'], $name, $plain, hex2bin($v['nonce'])));
                }
                if (isset($v['user'])) {
                    self::assertSame($v['user'], bin2hex(Principal::decode($plain)->user));
                }
            } catch (SessionException $e) {
                self::assertSame(Problem::Sealed, $e->problem);
                self::assertArrayNotHasKey('plain', $v, json_encode($v));
            }
        }
    }

    public function testUsers(): void
    {
        foreach (self::vectors('users') as $v) {
            self::ran('users');
            $keys = new Keys([], isset($v['key']) ? hex2bin($v['key']) : null);
            $owner = $keys->owner(hex2bin($v['user']));
            self::assertSame($v['owner'], $owner);
            self::assertSame($v['bucket'], bin2hex(substr(Text::decode($owner), 0, 2)));
        }
    }

    public function testRecords(): void
    {
        $vectors = self::vectors('records');
        foreach ($vectors['records'] as $v) {
            self::ran('records');
            $want = $v['record'];
            $got = Record::decode($v['hash']);
            self::assertSame(
                [$want['secret'], $want['current'], $want['generation'], $want['issued_ms'], $want['unused'], $want['idle_ms'],
                    $want['created_ms'], $want['seen_ms'], $want['deadline_ms'], $want['revision'], $want['size']],
                [$got->id, $got->current, $got->generation, $got->issued, $got->unused, $got->idle,
                    $got->created, $got->seen, $got->deadline, $got->revision, $got->size],
                $v['name'],
            );
            self::assertSame($want['fields'], $got->fields, $v['name']);
            $this->checkUser($want['user'], $got, $v);
        }
        foreach ($vectors['refused'] as $v) {
            self::ran('records refused');
            try {
                Record::decode($v['hash']);
                self::fail("not refused: {$v['name']}");
            } catch (FormatException $e) {
                self::assertNotSame('', $e->wrong);
            }
        }
    }

    private function checkUser(?array $want, Record $got, array $v): void
    {
        self::assertSame($want['owner'] ?? '', $got->owner);
        if ($want === null || Keys::isSealed($got->info)) {
            return;
        }
        $p = Principal::decode($got->info);
        self::assertSame(
            [$want['id'], $want['authenticated_ms'], $want['level'], $want['persistent'], $want['methods'], $want['device'], $want['agent'], $want['address']],
            [Text::encode($p->user), $got->authenticated, $got->level, $got->persistent, $p->methods, $p->device, $p->agent, $p->address],
            $v['name'],
        );
        $flat = Record::infoArguments($p->encode());
        $decoded = '';
        for ($i = 1; $i < count($flat); $i += 2) {
            $decoded .= $flat[$i];
        }
        self::assertEquals($p, Principal::decode($decoded));
    }

    /** This package publishes no events. Its users can open them with these functions of PHP. */
    public function testEvents(): void
    {
        foreach (self::vectors('events') as $v) {
            self::ran('events');
            $entry = hex2bin($v['entry']);
            $key = isset($v['key']) ? hash_hkdf('sha256', hex2bin($v['key']), 32, 'coatcheck/1 event') : null;
            self::assertSame($v['plain'] ?? null, self::openEvent($entry, $key), json_encode($v));
            if (isset($v['plain'], $v['nonce'])) {
                $nonce = hex2bin($v['nonce']);
                $sealed = openssl_encrypt($v['plain'], 'aes-256-gcm', $key, OPENSSL_RAW_DATA, $nonce, $tag);
                self::assertSame($entry, "\x01" . $nonce . $sealed . $tag);
            }
        }
    }

    private static function openEvent(string $entry, ?string $key): ?string
    {
        $json = $entry;
        if ($key !== null) {
            $sealed = strlen($entry) > 29 && $entry[0] === "\x01";
            $json = $sealed ? openssl_decrypt(
                substr($entry, 13, -16), 'aes-256-gcm', $key, OPENSSL_RAW_DATA, substr($entry, 1, 12), substr($entry, -16),
            ) : false;
        }
        $event = $json === false ? null : json_decode($json, true);
        return is_string($event['kind'] ?? null) && $event['kind'] !== '' ? $json : null;
    }

    public function testReading(): void
    {
        $file = self::vectors('reading');
        foreach ($file['reads'] as $v) {
            self::ran('reading');
            $got = $this->decide($v, $file, $file['now_ms'], $v['request_began_ms']);
            self::assertSame($v['outcome'], $got->outcome, $v['name'] . ': ' . $got->error?->getMessage());
            $this->checkUse($v, $got, $file['now_ms']);
        }
    }

    private function decide(array $v, array $file, int $now, int $began): Reading
    {
        ['session' => $session, 'revocations' => $revocations, 'revoked' => $revoked] = $v['stored'];
        $hash = fn (array $key): ?array => in_array($key['type'], ['none', 'hash'], true) ? $key['hash'] : null;
        return Reading::decide(
            $hash($session), $hash($revocations), match ($revoked['type']) {
                'none' => false, 'string' => $revoked['text'], default => null
            },
            $file['selector'], $v['token']['verifier'], $v['token']['generation'], $now, $began,
        );
    }

    private function checkUse(array $v, Reading $got, int $now): void
    {
        $record = $got->opens() ? $got->record : null;
        self::assertSame($v['touch_due'], $record?->touchDue($v['token']['verifier'], $now) ?? false, $v['name']);
        self::assertSame($v['expires_ms'], $record?->expires() ?? 0, $v['name']);
    }

    /** The same through phpredis, with all times moved to the server's. */
    public function testReadingFromServer(): void
    {
        $file = self::vectors('reading');
        $server = RedisServer::single();
        $store = new Store(fn () => $server->client(), $file['namespace']);
        $read = 0;
        foreach ($file['reads'] as $v) {
            if ($v['outcome'] !== 'error' && !$this->lasts($v, $file)) {
                continue; // some milliseconds decide
            }
            self::ran('reading from a server');
            [$seconds, $micros] = $server->command('TIME');
            $shift = (int) $seconds * 1000 + intdiv((int) $micros, 1000) - $file['now_ms'];
            $this->put($server, $file, $v, $shift);
            $age = ($file['now_ms'] - $v['request_began_ms']) * 1_000_000 - hrtime(true);
            $outcome = 'error';
            try {
                $got = $store->readBy("{$file['bucket']}-{$file['selector']}", $v['token']['verifier'], $v['token']['generation'], -$age);
                $outcome = $got->outcome;
            } catch (SessionException $e) {
                self::assertSame(Problem::Unavailable, $e->problem);
                self::assertStringContainsString($file['bucket'], $e->getMessage());
            }
            self::assertSame($v['outcome'], $outcome, $v['name']);
            $read++;
        }
        self::assertGreaterThan(150, $read);
        $server->command('DEL', $file['session']);
        $server->command('DEL', $file['revocations']);
        $server->command('DEL', $file['revoked']);
    }

    private function lasts(array $v, array $file): bool
    {
        foreach ([[-10, 0], [10, 0], [3000, 0], [0, -10], [0, 30], [10, -10], [3000, 30]] as [$now, $began]) {
            if ($this->decide($v, $file, $file['now_ms'] + $now, $v['request_began_ms'] + $began)->outcome !== $v['outcome']) {
                return false;
            }
        }
        return true;
    }

    private const TIMES = [
        '@s' => [44], '@l' => [22, 34], '@previous' => [23, 43], '@u' => [22], '@moving' => [22], '@ended' => [0], '@moved' => [0],
    ];

    private function put(RedisServer $server, array $file, array $v, int $shift): void
    {
        foreach (['session', 'revocations', 'revoked'] as $what) {
            $key = $file[$what];
            $server->command('DEL', $key);
            $stored = $v['stored'][$what];
            if ($stored['type'] === 'hash') {
                $flat = [];
                foreach ($stored['hash'] as $name => $text) {
                    array_push($flat, (string) $name, $this->shifted(self::TIMES[$name] ?? ($what === 'revocations' ? [0, 12] : []), $text, $shift));
                }
                $server->command('HSET', $key, ...$flat);
            } elseif ($stored['type'] === 'string') {
                $server->command('SET', $key, $what === 'revoked' ? $this->shifted([0], $stored['text'], $shift) : $stored['text']);
            } elseif ($stored['type'] === 'list') {
                $server->command('RPUSH', $key, $stored['text']);
            }
        }
    }

    /**
     * Moves the times in a text. What is far from the vectors' now is no time.
     * @param list<int> $places
     */
    private function shifted(array $places, string $text, int $shift): string
    {
        foreach ($places as $at) {
            $time = Text::number(substr($text, $at, 12));
            if ($time !== null && abs($time - 1_800_000_000_000) < 100 * 86_400_000) {
                $text = substr_replace($text, Text::hex($time + $shift), $at, 12);
            }
        }
        return $text;
    }

    public function testChanges(): void
    {
        $server = RedisServer::single();
        foreach (self::vectors('changes') as $v) {
            self::ran('changes');
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
        foreach (self::vectors('scripts') as $v) {
            self::ran('scripts');
            $this->runScript($server, basename($v['script'], '.lua'), $v['keys'], $v['args'], $v['before'], $v['reply'], $v['after'], "{$v['script']}: {$v['name']}");
        }
    }

    /** @param array<string, array> $before */
    private function runScript(
        RedisServer $server, string $script, array $keys, array $args, array $before, array $reply, array $after, string $name,
    ): void {
        foreach ([...array_keys($before), ...array_keys($after), ...$keys] as $key) {
            $server->command('DEL', $key);
        }
        [$seconds, $micros] = $server->command('TIME');
        $now = (int) $seconds * 1000 + intdiv((int) $micros, 1000);
        $before = $this->filled($before, $now);
        foreach ($before as $key => $content) {
            $this->store($server, (string) $key, $content ?? [], $now);
        }
        $connection = new Connection(fn () => $server->client(), 2.0);
        try {
            $got = $connection->script($script, $keys, $this->filled($args, $now), true);
        } catch (SessionException $e) {
            $got = [preg_match('/[A-Z]{4,} .*/', $e->getMessage(), $m) === 1 ? $m[0] : $e->getMessage()];
        }
        self::assertTrue($this->agrees($this->filled($reply, $now), $got), "$name: " . json_encode([$reply, $got]));
        foreach ($this->filled($after, $now) as $key => $content) {
            $this->checkContent($server, (string) $key, $content ?? [], $name);
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

    private function store(RedisServer $server, string $key, array $content, int $now): void
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

    private function checkContent(RedisServer $server, string $key, array $content, string $name): void
    {
        $type = $server->command('TYPE', $key);
        $type = is_string($type) ? $type : 'none';
        if (array_diff(array_keys($content), ['ttl']) === []) {
            self::assertSame(0, $server->command('EXISTS', $key), "$name: $key exists");
            return;
        }
        $got = match (true) {
            isset($content['hash']) => ['hash' => $server->hash($key)],
            isset($content['scores']) => ['scores' => self::pairs($server->command('ZRANGE', $key, '0', '-1', 'WITHSCORES'))],
            isset($content['stream']) => ['stream' => array_map(fn (array $e): array => [$e[0], ...$e[1]], $server->command('XRANGE', $key, '-', '+'))],
            isset($content['list']) => ['list' => $server->command('LRANGE', $key, '0', '-1')],
            default => ['text' => $server->command('GET', $key)],
        };
        $want = $content;
        unset($want['ttl']);
        foreach (['hash', 'scores'] as $kind) {
            if (isset($want[$kind])) {
                ksort($want[$kind], SORT_STRING);
                ksort($got[$kind], SORT_STRING);
            }
        }
        self::assertTrue($this->agrees($want, $got), "$name: $key: " . json_encode([$want, $got]));
        $ttl = (int) $server->command('PTTL', $key);
        $content['ttl'] ??= 0;
        match (true) {
            $content['ttl'] === 0 => self::assertSame(-1, $ttl, "$name: $key expires"),
            $content['ttl'] === -1 => self::assertGreaterThan(0, $ttl, "$name: $key"),
            default => self::assertEqualsWithDelta($content['ttl'], $ttl, 5000, "$name: $key"),
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

    /** Compares, and allows for some seconds in times. */
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
            return abs((int) $want - (int) $got) <= ((int) $want > 1_000_000_000_000 ? 5000 : 0);
        }
        if (!is_string($want) || !is_string($got) || strlen($want) !== strlen($got)) {
            return $want === $got;
        }
        foreach (range(0, max(0, strlen($want) - 12)) as $at) {
            $w = Text::number(substr($want, $at, 12));
            $g = Text::number(substr($got, $at, 12));
            if ($w !== null && $g !== null && $w > 1_600_000_000_000 && abs($w - $g) <= 5000) {
                $want = substr_replace($want, substr($got, $at, 12), $at, 12);
            }
        }
        return $want === $got;
    }
}
