<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Config;
use Coatcheck\Session\Counter;
use Coatcheck\Session\Incoming;
use Coatcheck\Session\Login;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Outgoing;
use Coatcheck\Session\Problem;
use Coatcheck\Session\Record;
use Coatcheck\Session\Session;
use Coatcheck\Session\SessionException;
use Coatcheck\Session\Store;
use Coatcheck\Session\Value;
use PHPUnit\Framework\TestCase;

/** What a sign-in returns, if something else happens at the same moment. */
final class SignInTest extends TestCase
{
    private bool $called = false;

    private function visit(Manager $m, ?string $token = null): Session
    {
        return $m->begin(Incoming::withToken($token, '__Host-session'));
    }

    private static function token(Manager $m, Session $s): string
    {
        return $s->out->token->text($m->keys);
    }

    /**
     * A connection that calls a function after it has run a script.
     *
     * @param \Closure(): void $then is called once
     */
    private function connectionThatCalls(\Closure $then, string $afterScript): \Redis
    {
        $hooks = new Hooks();
        $hooks->after = Hooks::once($afterScript, function () use ($then): void {
            $this->called = true;
            $then();
        });
        return $hooks->connect(RedisServer::single());
    }

    /** @return iterable<string, array{string, bool}> */
    public static function lastSteps(): iterable
    {
        yield 'the confirmation' => ['touch', true];
        yield 'the only step' => ['signin', false];
        yield 'the step before the confirmation' => ['signin', true];
    }

    /**
     * The new session ends between the last step of its sign-in and whatever follows.
     *
     * @dataProvider lastSteps
     */
    public function testSucceedsIfTheNewSessionEndsAtOnce(string $afterScript, bool $confirms): void
    {
        $namespace = 'race' . bin2hex(random_bytes(6));
        $connect = fn (): \Redis => RedisServer::single()->client();
        $config = new Config(maxPerUser: $confirms ? 1 : 0);
        $other = new Manager(new Store($connect, $namespace), new Config(maxPerUser: 1));
        $racing = $this->connectionThatCalls(fn () => $this->visit($other)->signIn(new Login('ada')), $afterScript);
        $m = new Manager(new Store($racing, $namespace), $config);
        foreach (['signin', 'touch'] as $script) { // else EVAL runs them
            RedisServer::single()->client()->script('load', file_get_contents(dirname(__DIR__) . "/lua/$script.lua"));
        }
        $s = $this->visit($m);
        (new Value('theme'))->set($s, 'dark');
        $s->signIn(new Login('ada', level: 2));
        self::assertTrue($this->called, 'another sign-in has ended the session');
        self::assertSame('ada', $s->user());
        self::assertSame(2, $s->info()->level);
        self::assertSame('dark', (new Value('theme'))->get($s));
        $s->out->confirmed = PHP_INT_MAX; // the response leaves at once
        $s->finish();
        $s->touch();
        self::assertNotNull($s->handle());
        $next = $this->visit($m, self::token($m, $s));
        self::assertNull($next->user(), 'the next request finds that it has ended');
    }

    public function testSlowRequestSetsNoCookieOfASessionThatHasEnded(): void
    {
        $m = new Manager(new Store(fn (): \Redis => RedisServer::single()->client(), 'slow' . bin2hex(random_bytes(6))));
        $s = $this->visit($m);
        $s->signIn(new Login('ada'));
        self::assertSame(Outgoing::SET, $s->out->cookie);
        $m->revokeUser('ada');
        $s->out->confirmed = 0; // long ago
        $s->finish();
        self::assertSame(Outgoing::KEEP, $s->out->cookie);
        self::assertNull($s->handle());
    }

    public function testNextChangeFindsThatTheNewSessionHasEnded(): void
    {
        $namespace = 'race' . bin2hex(random_bytes(6));
        $other = new Manager(new Store(fn (): \Redis => RedisServer::single()->client(), $namespace));
        $racing = $this->connectionThatCalls(fn () => $other->revokeUser('ada'), 'signin');
        $this->visit($other)->signIn(new Login('ada')); // loads the script
        $m = new Manager(new Store($racing, $namespace));
        $s = $this->visit($m);
        $s->signIn(new Login('ada'));
        self::assertTrue($this->called);
        (new Counter('n'))->add($s);
        try {
            $s->commit();
            self::fail('a change of an ended session was stored');
        } catch (SessionException $e) {
            self::assertTrue($e->is(Problem::Ended), $e->getMessage());
        }
    }

    /** @return iterable<string, array{array<string, mixed>, ?string, array<string, mixed>}> */
    public static function logins(): iterable
    {
        $keys = ['keys' => [str_repeat('k', 32)], 'userKey' => str_repeat('u', 32), 'seal' => true];
        yield 'no session before' => [[], null, []];
        yield 'no session before, a limit' => [['maxPerUser' => 2], null, ['level' => 3, 'methods' => ['pwd']]];
        yield 'anonymous' => [['keepFields' => ['n']], '', ['device' => 'Firefox']];
        yield 'the same user' => [[], 'ada', ['authenticated' => microtime(true) - 100]];
        yield 'another user' => [[], 'bob', ['lifetime' => 50.0]];
        yield 'remembered' => [['maxRemember' => 1e6], '', ['remember' => 1e5]];
        yield 'sealed' => [$keys + ['keepFields' => ['n', 'theme']], '', ['address' => '192.0.2.1']];
    }

    /** @dataProvider logins */
    public function testRecordIsThatOfTheStoreWithoutReadingIt(array $config, ?string $before, array $login): void
    {
        $m = new Manager(new Store(fn (): \Redis => RedisServer::single()->client(), 'record' . bin2hex(random_bytes(6))), new Config(...$config));
        $token = null;
        if ($before !== null) {
            $s = $this->visit($m);
            (new Counter('n'))->add($s, 5);
            (new Value('theme'))->set($s, 'dark');
            $before === '' ? $s->commit() : $s->signIn(new Login($before));
            $token = self::token($m, $s);
        }
        $s = $this->visit($m, $token);
        (new Value('new'))->set($s, 1);
        $s->signIn(new Login('ada', ...$login));
        $record = fn (Session $s): Record => (new \ReflectionProperty(Session::class, 'state'))->getValue($s)->record;
        $made = $record($s);
        $stored = $this->visit($m, self::token($m, $s));
        $stored->load();
        $want = $record($stored);
        $made->sealed = $want->sealed; // the keys of its own values are there
        ksort($made->fields);
        ksort($want->fields);
        self::assertEquals($want, $made);
        self::assertEquals($stored->info(), $s->info());
        self::assertSame($stored->names(), $s->names());
        self::assertSame(1, (new Value('new'))->get($s));
    }
}
