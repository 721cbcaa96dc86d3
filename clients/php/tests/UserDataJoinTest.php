<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Config;
use Coatcheck\Session\Counter;
use Coatcheck\Session\Data;
use Coatcheck\Session\Login;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Map;
use Coatcheck\Session\Problem;
use Coatcheck\Session\Value;

/** How fields join the data of a user, when something else happens at the same moment. */
final class UserDataJoinTest extends UserDataCase
{
    /** @return iterable<string, array{string, string, bool, bool}> */
    public static function failures(): iterable
    {
        foreach (['read', 'create', 'join'] as $step) {
            foreach ([false, true] as $done) {
                yield "$step, " . ($done ? 'its reply' : 'before it') => [$step, $done, false];
                yield "$step, " . ($done ? 'all replies' : 'each try') => [$step, $done, true];
            }
        }
    }

    /**
     * Whatever step of a join fails, and whatever reply is lost: the sign-in succeeds, and the cart
     * joins once.
     *
     * @dataProvider failures
     */
    public function testJoinIsRepeated(string $step, bool $done, bool $always): void
    {
        $m = $this->manager([], $this->hooks);
        $token = $this->shopper($m);
        $s = $this->visit($m, $token);
        $failed = 0;
        $fail = function (string $now) use ($step, $always, &$failed): void {
            if ($now === $step && ($failed === 0 || $always)) {
                $failed++;
                Hooks::fail($step)($now);
            }
        };
        $arm = function () use ($done, $fail): void {
            $done ? $this->hooks->after = $fail : $this->hooks->before = $fail;
        };
        // The reads of the sign-in itself have to succeed.
        $this->hooks->after = Hooks::once('touch', $arm);
        $s->signIn(new Login('ada'));
        $this->hooks->clear();
        self::assertGreaterThan($always ? 1 : 0, $failed);
        // Reading both records again shows a join that was made, and whose replies were lost.
        self::assertCount($always && !($step === 'join' && $done) ? 1 : 0, $this->log, implode($this->log));
        $token = self::token($m, $s);
        self::end($s);
        $s = $this->visit($m, $token);
        self::assertSame(['apple' => 2], self::cart($s->userData()));
        self::assertSame([], self::cart($s));
        self::assertSame(['apple' => 2], self::cart($m->userData('ada')));
    }

    public function testEachKindOfFieldJoins(): void
    {
        foreach (['plain' => [], 'sealed' => self::SEALED] as $user => $config) {
            $m = $this->manager($config);
            foreach (['first', 'second'] as $word) {
                $s = $this->visit($m);
                self::add($s, 'apple', 2);
                (new Counter('n'))->add($s, 10);
                (new Value('theme'))->set($s, $word);
                $s->commit();
                (new Map('gifts'))->set($s, $word, [$word]); // without a commit
                (new Map('gifts'))->set($s, 'both', $word);
                $s->signIn(new Login($user));
                self::end($s);
                self::assertSame([], $s->names());
            }
            $data = $m->userData($user);
            self::assertSame($user, $data->user());
            self::assertSame(['apple' => 4], self::cart($data));
            self::assertSame(20, (new Counter('n'))->get($data));
            self::assertSame('second', (new Value('theme'))->get($data));
            $gifts = ['both' => 'second', 'first' => ['first'], 'second' => ['second']];
            self::assertSame($gifts, iterator_to_array((new Map('gifts'))->all($data)));
            $stored = $this->server->hash($this->key($m, $user));
            self::assertSame($config !== [], str_starts_with($stored['theme'], '~1') && str_starts_with($stored['gifts:both'], '~1'));
        }
    }

    /** Another device changes what the join has read. */
    public function testTwoDevicesJoinAtTheSameMoment(): void
    {
        foreach ([1, 2] as $before) { // the data is missing, and then it is there
            $m = $this->manager([], $this->hooks);
            $other = $this->manager();
            $first = $this->visit($m, $this->shopper($m));
            $second = $this->visit($other, $this->shopper($other));
            $this->hooks->before = Hooks::once($before === 1 ? 'create' : 'join', fn () => $second->signIn(new Login('ada')));
            $first->signIn(new Login('ada'));
            self::assertSame(['apple' => 4 * $before], self::cart($first->userData()));
            self::assertSame([], self::cart($first));
            $this->hooks->clear();
        }
        self::assertSame([], $this->log);
    }

    /** A tab of the same session joins first, or ends the session. */
    public function testTheSessionChangesDuringAJoin(): void
    {
        $m = $this->manager([], $this->hooks);
        $other = $this->manager();
        $old = new Manager($other->store, new Config(keepFields: ['cart']));
        foreach ([
            fn (string $token) => $this->visit($other, $token)->userData(),
            fn (string $token) => self::add($this->visit($old, $token), 'pear'), // not committed
            fn (string $token) => $this->visit($other, $token)->signOut(),
        ] as $i => $meanwhile) {
            $s = $this->visit($old, $this->shopper($old));
            $s->signIn(new Login("user$i"));
            $token = self::token($m, $s);
            $this->hooks->before = Hooks::once('join', fn () => $meanwhile($token));
            $s = $this->visit($m, $token);
            if ($i < 2) {
                self::assertSame(['apple' => 2], self::cart($s->userData()));
            } else {
                $this->refused(Problem::Ended, fn () => $s->userData());
                self::assertSame([], self::cart($m->userData("user$i")));
            }
        }
    }

    /** While a token is being replaced, or the slot moves, a later request joins. */
    public function testBusy(): void
    {
        $m = $this->manager(['rotateEvery' => 60], $this->hooks);
        $old = new Manager($m->store, new Config(keepFields: ['cart'], rotateEvery: 60));
        $s = $this->visit($old, $this->shopper($old));
        $s->signIn(new Login('ada'));
        $token = self::token($m, $s);
        $this->hooks->before = fn (string $step) => $step === 'join' ? throw new \RedisException('TRYAGAIN Multiple keys request during rehashing of slot') : null;
        $began = hrtime(true);
        self::assertSame([], self::cart($this->visit($m, $token)->userData()));
        self::assertLessThan(RedisServer::PATIENCE / 2, (hrtime(true) - $began) / 1e9, 'it waits for the slot');
        $this->hooks->clear();
        // Renewed: the browser has not shown the new token yet.
        $s = $this->visit($m, $token);
        $s->renew();
        self::assertSame([], self::cart($s->userData()));
        self::assertSame(['apple' => 2], self::cart($s));
        self::end($s);
        $token = self::token($m, $s);
        self::end($this->visit($m, $token)); // this request does not read the session
        $s = $this->visit($m, $token);
        $s->load();
        self::end($s); // the first use
        self::assertSame(['apple' => 2], self::cart($this->visit($m, $token)->userData()));
    }

    public function testJoinThatDoesNotFit(): void
    {
        $many = function (Data $data, string $word, int $n): void {
            for ($i = 0; $i < $n; $i++) {
                self::add($data, "$word$i");
            }
        };
        $cases = [
            'bytes' => [Problem::TooLarge, fn (Data $d) => (new Map('gifts'))->set($d, 'a', str_repeat('x', 65_000)), fn (Data $d) => (new Map('gifts'))->set($d, 'b', str_repeat('x', 1000))],
            'fields' => [Problem::TooLarge, fn (Data $d) => $many($d, 'a', 1000), fn (Data $d) => $many($d, 'b', 100)],
            'overflow' => [Problem::Invalid, fn (Data $d) => self::add($d, 'a', PHP_INT_MAX), fn (Data $d) => self::add($d, 'a')],
            'no count' => [Problem::Decode, fn (Data $d) => (new Value('n'))->set($d, 'x'), fn (Data $d) => (new Counter('n'))->add($d)],
        ];
        foreach ($cases as $user => [$problem, $known, $new]) {
            $m = $this->manager();
            $data = $m->userData($user);
            $known($data);
            $data->commit();
            $before = $this->server->hash($this->key($m, $user));
            $s = $this->visit($m);
            $new($s);
            $s->commit();
            $names = $s->names();
            $this->log = [];
            $s->signIn(new Login($user));
            self::assertCount(1, $this->log);
            self::assertSame($names, $s->names());
            $this->refused($problem, fn () => $s->userData());
            self::assertSame($before, $this->server->hash($this->key($m, $user)));
            $s->clear();
            $s->commit();
            self::assertCount(count($before) - 2, $s->userData()->names());
            self::end($s);
        }
    }
}
