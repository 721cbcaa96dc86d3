<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Config;
use Coatcheck\Session\Counter;
use Coatcheck\Session\Counters;
use Coatcheck\Session\Data;
use Coatcheck\Session\Incoming;
use Coatcheck\Session\Login;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Map;
use Coatcheck\Session\Session;
use Coatcheck\Session\Store;
use Coatcheck\Session\Value;
use PHPUnit\Framework\TestCase;

/** Programs and visitors for the tests of user data. */
abstract class UserDataCase extends TestCase
{
    use Refusals;

    protected const SEALED = ['keys' => ['kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk'], 'userKey' => 'uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu', 'seal' => true];

    protected RedisServer $server;
    protected string $namespace;
    protected Hooks $hooks;
    /** @var list<string> */
    protected array $log = [];

    protected function setUp(): void
    {
        $this->server = RedisServer::single();
        $this->namespace = 'data' . bin2hex(random_bytes(6));
        $this->hooks = new Hooks();
        foreach (glob(dirname(__DIR__) . '/lua/*.lua') as $file) { // else EVAL runs them
            $this->server->client()->script('load', file_get_contents($file));
        }
    }

    /** A program. The hooks are those of the first one. */
    protected function manager(array $config = [], ?Hooks $hooks = null): Manager
    {
        $hooks ??= new Hooks();
        return new Manager(
            new Store(fn (): \Redis => $hooks->connect($this->server), $this->namespace, timeout: RedisServer::PATIENCE),
            new Config(...$config, userFields: [new Counters('cart'), new Counter('n'), new Value('theme'), new Map('gifts')]),
            function (string $m): void {
                $this->log[] = $m;
            },
        );
    }

    protected function visit(Manager $m, ?string $token = null): Session
    {
        return $m->begin(Incoming::withToken($token, '__Host-session'));
    }

    protected static function end(Session $s): void
    {
        $s->finish();
        $s->touch();
    }

    protected static function token(Manager $m, Session $s): string
    {
        return $s->out->token->text($m->keys);
    }

    /** Signs in on a new device, and returns its token. */
    protected function signIn(Manager $m, string $user = 'ada'): string
    {
        $s = $this->visit($m);
        $s->signIn(new Login($user));
        self::end($s);
        return self::token($m, $s);
    }

    /** A visitor with two apples in the cart of an anonymous session. */
    protected function shopper(Manager $m): string
    {
        $s = $this->visit($m);
        (new Counters('cart'))->add($s->userData(), 'apple', 2);
        self::end($s);
        return self::token($m, $s);
    }

    /** @return array<array-key, int> */
    protected static function cart(Data $data): array
    {
        return iterator_to_array((new Counters('cart'))->all($data));
    }

    protected static function add(Data $data, string $fruit = 'apple', int $n = 1): void
    {
        (new Counters('cart'))->add($data, $fruit, $n);
    }

    protected function key(Manager $m, string $user = 'ada'): string
    {
        $owner = $m->keys->owner($user);
        return "$this->namespace:{" . bin2hex(substr(base64_decode(strtr($owner, '-_', '+/')), 0, 2)) . "}:d:$owner";
    }
}
