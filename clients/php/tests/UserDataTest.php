<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Config;
use Coatcheck\Session\Counter;
use Coatcheck\Session\Counters;
use Coatcheck\Session\Data;
use Coatcheck\Session\Login;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Map;
use Coatcheck\Session\Problem;
use Coatcheck\Session\Session;
use Coatcheck\Session\UserData;
use Coatcheck\Session\Value;

/** Changes of the data of users: its creation, its end, sessions that end, and what is hostile. */
final class UserDataTest extends UserDataCase
{
    /** Removes the data, as if it had expired. */
    private function expire(Manager $m): void
    {
        $this->server->command('DEL', $this->key($m));
    }

    private function id(Manager $m): string
    {
        return substr($this->server->hash($this->key($m))['@l'], 0, 22);
    }

    // Creating

    /** Both requests began before the data was stored. */
    public function testTwoRequestsCreateTheData(): void
    {
        foreach (['ada' => [], 'bob' => self::SEALED] as $user => $config) {
            $m = $this->manager($config, $this->hooks);
            $token = $this->signIn($m, $user);
            $s = $this->visit($m, $token);
            $data = $s->userData();
            self::add($data);
            (new Map('gifts'))->set($data, 'a', 'first');
            $this->hooks->before = Hooks::once('create', function () use ($config, $token): void {
                $s = $this->visit($other = $this->manager($config), $token);
                self::add($s->userData());
                (new Map('gifts'))->set($s->userData(), 'b', 'second');
                (new Value('theme'))->set($s->userData(), 'light');
                self::end($s);
            });
            self::assertSame('lighter', (new Value('theme'))->update($data, fn (?string $old): string => "{$old}er"));
            self::assertSame(['apple' => 2], self::cart($data));
            self::assertSame(['a' => 'first', 'b' => 'second'], iterator_to_array((new Map('gifts'))->all($data)));
            (new Value('theme'))->set($data, 'dark');
            self::end($s);
            $data = $m->userData($user);
            self::assertSame('dark', (new Value('theme'))->get($data));
            self::assertSame('first', (new Map('gifts'))->get($data, 'a'));
            $this->hooks->clear();
        }
    }

    /** @return iterable<string, array{\Closure(Data): mixed, mixed}> a change, and its value */
    public static function changes(): iterable
    {
        yield 'commit' => [fn (Data $d) => $d->commit(), null];
        yield 'take' => [fn (Data $d) => (new Value('theme'))->take($d), null];
        yield 'update' => [fn (Data $d) => (new Value('theme'))->update($d, fn (?string $old): string => ($old ?? 'no') . 'er'), 'noer'];
        yield 'add within' => [fn (Data $d) => (new Counter('n'))->addWithin($d, 3, 0, 5), 3];
        yield 'set within' => [fn (Data $d) => (new Map('gifts'))->setWithin($d, 'c', 'third', 2), null];
    }

    /**
     * The data expires after a request has read it. The change makes it anew, with another id.
     *
     * @dataProvider changes
     */
    public function testDataExpiresBetweenReadAndChange(\Closure $change, mixed $value): void
    {
        foreach ([[], self::SEALED] as $config) {
            $m = $this->manager($config);
            $data = $m->userData('ada');
            self::add($data, 'pear', 7);
            (new Counter('n'))->add($data, 4);
            (new Value('theme'))->set($data, 'old');
            (new Map('gifts'))->set($data, 'a', 'first');
            $data->commit();
            $id = $this->id($m);
            $s = $this->visit($m, $this->signIn($m));
            $data = $s->userData();
            self::add($data, 'apple', 2);
            (new Map('gifts'))->set($data, 'b', 'second');
            $this->expire($m);
            self::assertSame($value, $change($data));
            foreach ([$data, $m->userData('ada')] as $view) {
                self::assertSame(['apple' => 2], self::cart($view));
                self::assertSame('second', (new Map('gifts'))->get($view, 'b'));
                self::assertNull((new Map('gifts'))->get($view, 'a'));
                array_map($view->value(...), $view->names()); // all open
            }
            self::assertNotSame($id, $this->id($m));
            self::end($s);
            $this->expire($m);
        }
    }

    /** Another request creates the expired data anew, before this one stores a sealed value. */
    public function testSealedValueOpensInDataThatWasCreatedAnew(): void
    {
        $m = $this->manager(self::SEALED);
        $data = $m->userData('ada');
        (new Counter('n'))->add($data, 1);
        $data->commit();
        (new Value('theme'))->set($data, 'dark');
        $this->expire($m);
        $other = $m->userData('ada');
        self::add($other, 'pear', 2);
        $other->commit();
        $data->commit();
        $now = $m->userData('ada');
        self::assertSame(['pear' => 2], self::cart($now));
        self::assertSame('dark', (new Value('theme'))->get($now));
    }

    /** The server's clock is a little ahead of the key's expiry, or the key was restored. */
    public function testExpiredDataIsNotShown(): void
    {
        $m = $this->manager(['userDataTimeout' => 60.0]);
        $data = $m->userData('ada');
        self::add($data);
        $data->commit();
        $state = $this->server->hash($this->key($m))['@s'];
        $this->server->command('HSET', $this->key($m), '@s', substr($state, 0, 44) . sprintf('%012x', $this->server->time() - 60_000));
        self::assertSame([], $m->userData('ada')->names());
    }

    public function testLostRepliesAddOnceOrFail(): void
    {
        $m = $this->manager([], $this->hooks);
        $s = $this->visit($m, $this->signIn($m));
        self::add($s->userData());
        $this->hooks->after = Hooks::once('create', fn () => Hooks::fail('create')('create'));
        self::end($s); // a repetition says that it is stored
        $data = $m->userData('ada');
        self::assertSame(['apple' => 1], self::cart($data));
        self::add($data);
        $this->hooks->clear();
        $this->hooks->after = Hooks::fail('apply');
        $this->refused(Problem::UnknownOutcome, fn () => $data->commit());
        $this->refused(Problem::UnknownOutcome, fn () => $data->commit());
        self::assertSame(['apply'], $this->hooks->steps, 'it is not sent again');
        self::assertSame(['apple' => 2], self::cart($m->userData('ada')));
    }

    public function testLimitsOfACallHold(): void
    {
        $m = $this->manager();
        $data = $m->userData('ada');
        foreach (['not stored', 'stored'] as $i => $state) {
            self::add($data);
            $this->refused(Problem::Limit, fn () => (new Counter('n'))->addWithin($data, 9, 0, 5));
            $this->refused(Problem::Limit, fn () => (new Map('gifts'))->setWithin($data, 'b', 1, 0));
            self::assertSame(1 + $i, (new Counter('n'))->addWithin($data, 1, 0, 5), $state);
        }
        self::assertSame(['apple' => 2], self::cart($m->userData('ada')));
        $data->clear();
        $data->commit();
        self::assertSame([], $m->userData('ada')->names());
    }

    // Sessions

    /** @return iterable<string, array{\Closure(Manager, Session): mixed}> */
    public static function ends(): iterable
    {
        yield 'signed out' => [fn (Manager $m, Session $s) => $s->signOut()];
        yield 'renewed' => [fn (Manager $m, Session $s) => $s->renew()];
        yield 'revoked' => [fn (Manager $m, Session $s) => $m->revokeUser('ada')];
        yield 'another user' => [fn (Manager $m, Session $s) => $s->signIn(new Login('bob'))];
    }

    /** @dataProvider ends */
    public function testRequestOfASessionThatEndedDoesNotChangeTheData(\Closure $end): void
    {
        $m = $this->manager();
        $token = $this->signIn($m);
        $s = $this->visit($m, $token);
        self::add($s->userData());
        $end($m, $this->visit($this->manager(), $token));
        $this->refused(Problem::Ended, fn () => self::end($s));
        self::assertSame(0, (int) $this->server->command('EXISTS', $this->key($m)));
    }

    public function testSignInAsAnother(): void
    {
        $m = $this->manager();
        $s = $this->visit($m, $this->signIn($m));
        $ada = $s->userData();
        self::add($ada);
        $s->signIn(new Login('ada')); // with a second factor
        self::assertSame($ada, $s->userData());
        self::add($ada);
        $s->signIn(new Login('bob'));
        $bob = $s->userData();
        self::assertSame([], self::cart($bob));
        self::add($bob, 'pear');
        self::end($s);
        self::assertSame(['apple' => 2], self::cart($m->userData('ada')));
        self::assertSame(['pear' => 1], self::cart($m->userData('bob')));
        $s = $this->visit($m, self::token($m, $s));
        $bob = $s->userData();
        $s->signIn(new Login('ada'));
        self::add($bob, 'pear');
        self::add($s->userData());
        $this->refused(Problem::Ended, fn () => self::end($s));
        self::assertSame(['pear' => 1], self::cart($m->userData('bob')));
        // After a sign-out the data takes no changes, and the request has an anonymous session.
        $s = $this->visit($m, $this->signIn($m));
        $data = $s->userData();
        self::add($data);
        $s->signOut();
        self::assertSame($s, $s->userData());
        self::end($s);
        self::add($data);
        $this->refused(Problem::Ended, fn () => $data->commit());
        self::assertSame(['apple' => 2], self::cart($m->userData('ada')));
    }

    /** A sign-in is how to go on after an end. */
    public function testSignInAfterTheSessionEnded(): void
    {
        $m = $this->manager();
        $token = $this->signIn($m);
        $s = $this->visit($m, $token);
        self::add($s->userData());
        $this->visit($m, $token)->signOut();
        $s->signIn(new Login('ada'));
        self::add($s->userData(), 'pear');
        self::end($s);
        self::assertSame(['pear' => 1], self::cart($m->userData('ada')));
    }

    public function testSessionIsCommittedFirst(): void
    {
        $m = $this->manager([], $this->hooks);
        $token = $this->signIn($m);
        $change = function () use ($m, $token): Session {
            $s = $this->visit($m, $token);
            self::add($s->userData());
            (new Counter('own'))->add($s);
            return $s;
        };
        self::end($change());
        $s = $change();
        $this->hooks->before = Hooks::fail('apply');
        $this->refused(Problem::Unavailable, fn () => self::end($s));
        $this->hooks->before = Hooks::once('apply', fn () => $this->hooks->before = Hooks::fail('apply'));
        $s = $change();
        $this->refused(Problem::Unavailable, fn () => self::end($s)); // between the two commits
        $this->hooks->clear();
        self::assertSame(2, (new Counter('own'))->get($this->visit($m, $token)));
        self::assertSame(['apple' => 1], self::cart($m->userData('ada')));
        $s = $change();
        $this->hooks->before = fn (string $step) => $step === 'read' ? throw new \RedisException('lost') : null;
        $this->refused(Problem::Unavailable, fn () => self::end($s)); // the session cannot be read again
        $this->refused(Problem::Unavailable, fn () => $this->visit($m, $token)->userData());
        $this->hooks->clear();
        $s = $change();
        $s->discard();
        self::end($s);
        $change()->abandon();
        self::assertSame(['apple' => 1], self::cart($m->userData('ada')));
    }

    /** After a rotation a request uses the old token, and after a renewal the new one. */
    public function testTokenIsReplacedInTheSameRequest(): void
    {
        $m = $this->manager(['rotateEvery' => 60]);
        $token = $this->signIn($m);
        $key = $this->server->command('KEYS', "$this->namespace:*:s:*")[0];
        $life = $this->server->hash($key)['@l'];
        $this->server->command('HSET', $key, '@l', substr($life, 0, 22) . sprintf('%012x', hexdec(substr($life, 22, 12)) - 61_000) . substr($life, 34));
        $s = $this->visit($m, $token);
        self::add($s->userData());
        self::end($s);
        self::assertTrue($s->out->rotated);
        $s = $this->visit($m, self::token($m, $s));
        self::add($s->userData());
        $s->renew();
        self::end($s);
        self::assertSame(['apple' => 2], self::cart($m->userData('ada')));
    }

    public function testUseIsRecordedOnceAnHour(): void
    {
        $m = $this->manager(['userDataTimeout' => 100 * 3600.0]);
        $token = $this->signIn($m);
        $data = $m->userData('ada');
        self::add($data);
        $data->commit();
        foreach ([[50, false, false], [70, true, false], [70, false, true]] as [$minutes, $passive, $touched]) {
            $key = $this->key($m);
            $state = $this->server->hash($key)['@s'];
            $state = substr($state, 0, 44) . sprintf('%012x', $this->server->time() - $minutes * 60_000);
            $this->server->command('HSET', $key, '@s', $state);
            $s = $this->visit($m, $token);
            if ($passive) {
                $s->setPassive();
            }
            self::assertSame(['apple' => 1], self::cart($s->userData()));
            self::end($s);
            self::assertSame($touched, $state !== $this->server->hash($key)['@s'], "$minutes minutes");
        }
    }

    // Hostile data, keys that are missing, and the deletion of a user

    /** @return iterable<string, array{list<string>}> a command for the key. "*" is the owner */
    public static function hostile(): iterable
    {
        $life = str_repeat('A', 22) . sprintf('%012x%012x%012x', 1, 0x8637bd05af6, 0x8637bd05af6);
        $state = fn (string $head, int $size = 0): string => $head . sprintf('%012x%08x%012x', 1, $size, 1_700_000_000_000);
        yield 'string' => [['SET', 'x']];
        yield 'list' => [['RPUSH', 'x']];
        yield 'version' => [['HSET', '@s', $state('20*'), '@l', $life]];
        yield 'no record' => [['HSET', 'cart:apple', '1']];
        yield 'size' => [['HSET', '@s', $state('10*', 3), '@l', $life, 'n', '1234']];
        yield 'marker' => [['HSET', '@ended', sprintf('%012x', 1) . str_repeat('A', 22)]];
        yield 'another owner' => [['HSET', '@s', $state('10' . str_repeat('A', 22)), '@l', $life]];
        yield 'a user' => [['HSET', '@s', $state('10*'), '@l', $life, '@u', str_repeat('A', 22) . sprintf('%012x', 1) . '0000000']];
        yield 'unknown metadata' => [['HSET', '@s', $state('10*'), '@l', $life, '@x', '1']];
    }

    /** @dataProvider hostile */
    public function testHostileDataIsAnErrorAndStays(array $command): void
    {
        $m = $this->manager();
        $token = $this->signIn($m);
        $s = $this->visit($m, $token);
        $early = $s->userData();
        $owner = $m->keys->owner('ada');
        $words = array_map(fn (string $w): string => str_replace('*', $owner, $w), array_slice($command, 1));
        $this->server->command($command[0], $this->key($m), ...$words);
        $before = $this->server->command('DUMP', $this->key($m));
        self::add($early);
        $this->refused(Problem::Unavailable, fn () => self::end($s));
        $this->refused(Problem::Unavailable, fn () => $this->visit($m, $token)->userData());
        $this->refused(Problem::Unavailable, fn () => $m->userData('ada'));
        $s = $this->visit($m, $this->shopper($m));
        $s->signIn(new Login('ada')); // the cart stays in the session
        self::assertSame(['apple' => 2], self::cart($s));
        self::assertSame($before, $this->server->command('DUMP', $this->key($m)));
    }

    public function testDroppedKey(): void
    {
        $m = $this->manager(self::SEALED);
        $data = $m->userData('ada');
        (new Value('theme'))->set($data, 'dark');
        $data->commit();
        $other = $this->manager(['keys' => [str_repeat('o', 32)]] + self::SEALED);
        $this->refused(Problem::Sealed, fn () => $other->userData('ada'));
        $rotated = $this->manager(['keys' => [str_repeat('o', 32), ...self::SEALED['keys']]] + self::SEALED);
        self::assertSame('dark', (new Value('theme'))->get($rotated->userData('ada')));
        self::assertSame(0, $other->deleteUser('ada'));
        self::assertSame([], $other->userData('ada')->names());
    }

    public function testDeleteUser(): void
    {
        $m = $this->manager();
        self::assertSame(0, $m->deleteUser('bob'));
        self::assertSame(0, (int) $this->server->command('EXISTS', $this->key($m, 'bob')));
        $tokens = [$this->signIn($m), $this->signIn($m)];
        $s = $this->visit($m, $tokens[0]);
        self::add($s->userData());
        self::end($s);
        self::assertSame(2, $m->deleteUser('ada'));
        self::assertSame([], $m->userData('ada')->names());
        self::assertNull($this->visit($m, $tokens[1])->user());
        $this->refused(Problem::Invalid, fn () => $m->userData(''));
        $this->refused(Problem::Invalid, fn () => $m->deleteUser(''));
    }

    public function testExampleOfTheReadme(): void
    {
        $readme = (string) file_get_contents(dirname(__DIR__) . '/README.md');
        self::assertSame(1, preg_match('/^## User data$.*?^```php$(.*?)^```$/ms', $readme, $example));
        $m = $this->manager();
        $store = $m->store;
        $this->signIn($m);
        $s = $this->visit($m);
        $cart = $sessions = null;
        eval("use Coatcheck\\Session\\{Config, Counters, Manager}; $example[1]");
        self::assertSame(1, $cart->get($s, 'apple'));
        self::assertSame([], $sessions->userData('ada')->names());
        self::assertSame([], iterator_to_array($sessions->sessions('ada')));
    }

    public function testConfiguration(): void
    {
        foreach ([['userFields' => ['cart']], ['userDataTimeout' => 0.0], ['userDataTimeout' => 4e8]] as $wrong) {
            try {
                new Config(...$wrong);
                self::fail('accepted: ' . json_encode($wrong));
            } catch (\InvalidArgumentException $e) {
                self::assertStringContainsString(key($wrong), $e->getMessage());
            }
        }
        self::assertFalse(method_exists(UserData::class, 'signIn') || method_exists(UserData::class, 'csrfToken'));
        $m = $this->manager();
        $s = $this->visit($m);
        self::assertSame($s, $s->userData());
        self::assertInstanceOf(UserData::class, $m->userData('ada'));
    }
}
