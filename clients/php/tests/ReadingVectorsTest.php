<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Problem;
use Coatcheck\Session\Reading;
use Coatcheck\Session\SessionException;
use Coatcheck\Session\Store;
use Coatcheck\Session\Text;
use PHPUnit\Framework\TestCase;

/** format/vectors/reading.json: which session a token opens. */
final class ReadingVectorsTest extends TestCase
{
    public static function tearDownAfterClass(): void
    {
        Vectors::report();
    }

    public function testReading(): void
    {
        $file = Vectors::all('reading');
        foreach ($file['reads'] as $v) {
            Vectors::ran('reading');
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
        $file = Vectors::all('reading');
        $server = RedisServer::single();
        $store = new Store(fn () => $server->client(), $file['namespace'], timeout: RedisServer::PATIENCE);
        $read = 0;
        foreach ($file['reads'] as $v) {
            if ($v['outcome'] !== 'error' && !$this->lasts($v, $file)) {
                continue; // some milliseconds decide
            }
            Vectors::ran('reading from a server');
            $got = Vectors::atOneMoment($server, fn (int $now): string|SessionException => $this->read($server, $store, $file, $v, $now));
            if ($got instanceof SessionException) {
                self::assertSame(Problem::Unavailable, $got->problem);
                self::assertStringContainsString($file['bucket'], $got->getMessage());
                $got = 'error';
            }
            self::assertSame($v['outcome'], $got, $v['name']);
            $read++;
        }
        self::assertGreaterThan(180, $read);
        $server->command('DEL', $file['session']);
        $server->command('DEL', $file['revocations']);
        $server->command('DEL', $file['revoked']);
    }

    /** Stores a vector, and returns the outcome of reading it. */
    private function read(RedisServer $server, Store $store, array $file, array $v, int $now): string|SessionException
    {
        $this->put($server, $file, $v, $now - $file['now_ms']);
        $began = hrtime(true) - ($file['now_ms'] - $v['request_began_ms']) * 1_000_000;
        try {
            return $store->readBy("{$file['bucket']}-{$file['selector']}", $v['token']['verifier'], $v['token']['generation'], $began)->outcome;
        } catch (SessionException $e) {
            return $e;
        }
    }

    /** Reports whether the outcome stays the same while a vector is stored and read. */
    private function lasts(array $v, array $file): bool
    {
        $most = Vectors::MOMENT;
        foreach ([[0, -3], [0, 3], [$most, -3], [$most, intdiv($most, 2)], [$most, $most + 3]] as [$now, $began]) {
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
}
