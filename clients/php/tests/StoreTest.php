<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Config;
use Coatcheck\Session\Counter;
use Coatcheck\Session\Incoming;
use Coatcheck\Session\Info;
use Coatcheck\Session\Login;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Map;
use Coatcheck\Session\Problem;
use Coatcheck\Session\Session;
use Coatcheck\Session\SessionException;
use Coatcheck\Session\Store;
use Coatcheck\Session\Value;
use PHPUnit\Framework\TestCase;

/** phpredis and its traps, faults, forks, replicas and a Cluster. */
final class StoreTest extends TestCase
{
    use Refusals;

    private static RedisServer $server;

    public static function setUpBeforeClass(): void
    {
        self::$server = RedisServer::start();
    }

    public static function tearDownAfterClass(): void
    {
        self::$server->stop();
    }

    private function manager(\Redis|\RedisCluster|\Closure|null $redis = null, int $replicas = 0, int $replicaTimeout = 1): Manager
    {
        $redis ??= fn () => self::$server->client();
        return new Manager(
            new Store($redis, 'store' . bin2hex(random_bytes(6)), $replicas, $replicaTimeout, RedisServer::PATIENCE),
            new Config(), fn (string $m) => null,
        );
    }

    private function visit(Manager $m, ?string $token = null): Session
    {
        return $m->begin(Incoming::withToken($token, '__Host-session'));
    }

    /** Makes a session and returns its token. */
    private function begin(Manager $m, string $theme = 'dark'): string
    {
        $s = $this->visit($m);
        (new Value('theme'))->set($s, $theme);
        $s->finish();
        return $s->out->token->text($m->keys);
    }

    public function testOptionsOfTheApplicationsObjectDoNotApply(): void
    {
        $redis = self::$server->client();
        $redis->setOption(\Redis::OPT_PREFIX, 'app:');
        $redis->setOption(\Redis::OPT_SERIALIZER, \Redis::SERIALIZER_PHP);
        $redis->setOption(\Redis::OPT_COMPRESSION, \Redis::COMPRESSION_LZF);
        $namespace = 'options' . bin2hex(random_bytes(4));
        $m = new Manager(new Store($redis, $namespace));
        $token = $this->begin($m);
        $s = $this->visit($m, $token);
        self::assertSame('dark', (new Value('theme'))->get($s));
        (new Counter('n'))->add($s, 2);
        $s->signIn(new Login('ada'));
        self::assertSame(2, (new Counter('n'))->get($s));
        self::assertCount(1, iterator_to_array($m->sessions('ada'), false));
        $keys = self::$server->command('KEYS', "*$namespace*");
        self::assertSame([], preg_grep('/^app:/', $keys));
        self::assertSame('app:', $redis->getOption(\Redis::OPT_PREFIX));
        self::assertSame(1, $m->revokeUser('ada'));
    }

    public function testConnectionInATransactionIsRefused(): void
    {
        $redis = self::$server->client();
        $m = $this->manager($redis);
        $token = $this->begin($m);
        foreach ([\Redis::MULTI, \Redis::PIPELINE] as $mode) {
            $redis->multi($mode);
            $redis->set('of the application', '1');
            $this->refused(Problem::Unavailable, fn () => $this->visit($m, $token)->load());
            self::assertSame([true], $redis->exec(), 'the transaction of the application goes on');
        }
        self::assertSame('dark', (new Value('theme'))->get($this->visit($m, $token)));
    }

    /** phpredis returns false for it, as for a missing key. */
    public function testErrorOfTheServerIsNoMissingSession(): void
    {
        $m = $this->manager();
        $token = $this->begin($m);
        self::$server->command('ACL', 'SETUSER', 'blind', 'on', '>pw', '~*', '+@all', '-hgetall', '-get', '-time');
        foreach (['-hgetall', '-get', '-time'] as $forbidden) {
            self::$server->command('ACL', 'SETUSER', 'blind', '+@all', $forbidden);
            $blind = self::$server->client();
            $blind->auth(['blind', 'pw']);
            $other = new Manager(new Store($blind, (new \ReflectionProperty(Store::class, 'namespace'))->getValue($m->store)));
            $this->refused(Problem::Unavailable, fn () => $this->visit($other, $token)->load());
        }
    }

    /**
     * Connections whose read timeout a test chooses: a closure that connects, and an object.
     *
     * @return iterable<string, array{\Closure|\Redis, \Closure(float): void}>
     */
    private function connections(): iterable
    {
        $seconds = RedisServer::PATIENCE;
        $last = self::$server->client();
        yield 'object' => [$last, fn (float $s) => $last->setOption(\Redis::OPT_READ_TIMEOUT, $s)];
        $connect = function () use (&$last, &$seconds): \Redis {
            $last = self::$server->client();
            $last->setOption(\Redis::OPT_READ_TIMEOUT, $seconds);
            return $last;
        };
        yield 'closure' => [$connect, function (float $s) use (&$last, &$seconds): void {
            $last->setOption(\Redis::OPT_READ_TIMEOUT, $seconds = $s);
        }];
    }

    public function testReplyAfterATimeoutIsNotThatOfTheCommandBefore(): void
    {
        foreach ($this->connections() as $kind => [$redis, $setTimeout]) {
            $m = $this->manager($redis);
            $dark = $this->begin($m);
            $light = $this->begin($m, 'light');
            $setTimeout(0.05);
            self::$server->pause();
            $this->refused(Problem::Unavailable, fn () => $this->visit($m, $dark)->load());
            self::$server->resume();
            $setTimeout(RedisServer::PATIENCE);
            self::assertSame('light', (new Value('theme'))->get($this->visit($m, $light)), $kind);
        }
    }

    /**
     * A process that is killed leaves a reply in its persistent connection.
     *
     * @testWith ["a read"]
     *           ["a script"]
     *           ["two databases"]
     */
    public function testReplyThatAnotherRequestLeftInAPersistentConnectionIsNotUsed(string $first): void
    {
        $url = self::$server->url . ($first === 'two databases' ? '/2' : '');
        $m = new Manager(Store::connect($url, 'left' . bin2hex(random_bytes(6)), timeout: RedisServer::PATIENCE));
        $token = $this->begin($m);
        $connection = (new \ReflectionProperty(Store::class, 'connection'))->getValue($m->store);
        $redis = (new \ReflectionProperty($connection, 'redis'))->getValue($connection);
        $redis->setOption(\Redis::OPT_READ_TIMEOUT, 0.05);
        try {
            $redis->rawCommand('BLPOP', $list = 'left' . bin2hex(random_bytes(6)), '10');
            self::fail('BLPOP did not wait');
        } catch (\RedisException) { // the reply comes later
        }
        $database = $redis->getDbNum();
        $namespace = (new \ReflectionProperty(Store::class, 'namespace'))->getValue($m->store);
        unset($m, $connection, $redis); // it goes back to the pool
        $other = self::$server->client();
        if ($database !== 0) {
            $other->select($database);
        }
        $other->rPush($list, 'left');
        $other->ping(); // the reply to BLPOP has left by now
        $next = new Manager(Store::connect($url, $namespace, timeout: RedisServer::PATIENCE));
        if ($first === 'a script') {
            $token = $this->begin($next);
        }
        $s = $this->visit($next, $token);
        self::assertSame('dark', (new Value('theme'))->get($s));
        (new Counter('n'))->add($s);
        $s->commit();
        self::assertSame(1, (new Counter('n'))->get($s));
        self::assertSame($first === 'two databases' ? 2 : 0, $database);
    }

    /** phpredis keeps the read timeout with which a persistent connection was opened. */
    public function testPersistentConnectionHasTheTimeoutOfItsStore(): void
    {
        $open = function (float $timeout): \Redis {
            $connection = (new \ReflectionProperty(Store::class, 'connection'))->getValue(Store::connect(self::$server->url, timeout: $timeout));
            $connection->isCluster(); // it connects
            return (new \ReflectionProperty($connection, 'redis'))->getValue($connection);
        };
        $open(0.0); // waits a second for a reply. The connection goes back to the pool
        self::assertSame([], $open(RedisServer::PATIENCE)->rawCommand('BLPOP', 'no list', '1.2') ?: []);
    }

    /** phpredis has one pool for all code of the process that uses the same server. */
    public function testPersistentConnectionOfTheApplicationWithAnotherDatabase(): void
    {
        $leave = function (): void {
            $app = new \Redis();
            $app->pconnect('127.0.0.1', self::$server->port(), RedisServer::PATIENCE, 'app', 0, RedisServer::PATIENCE);
            $app->select(3);
        };
        $namespace = 'database' . bin2hex(random_bytes(6));
        $connect = fn (): Manager => new Manager(Store::connect(self::$server->url, $namespace, timeout: RedisServer::PATIENCE));
        $leave();
        $token = $this->begin($connect()); // first a script
        self::assertCount(1, self::$server->command('KEYS', "$namespace:*"));
        $leave();
        self::assertSame('dark', (new Value('theme'))->get($this->visit($connect(), $token))); // first a read
    }

    public function testChangeWithAnUnknownOutcomeIsNotSentAgain(): void
    {
        foreach ($this->connections() as $kind => [$redis, $setTimeout]) {
            $m = $this->manager($redis);
            $token = $this->begin($m);
            $s = $this->visit($m, $token);
            (new Counter('n'))->add($s);
            $setTimeout(0.05);
            self::$server->pause();
            $this->refused(Problem::UnknownOutcome, fn () => $s->commit());
            $this->refused(Problem::UnknownOutcome, fn () => $s->finish()); // the request must fail
            self::$server->resume();
            $setTimeout(RedisServer::PATIENCE);
            $s = $this->visit($m, $token);
            self::assertLessThanOrEqual(1, (new Counter('n'))->get($s), $kind);
            (new Counter('n'))->add($s, 10);
            $s->commit();
            self::assertContains((new Counter('n'))->get($s), [10, 11], $kind);
        }
    }

    public function testScriptFlush(): void
    {
        $m = $this->manager();
        $token = $this->begin($m);
        foreach (range(1, 3) as $i) {
            self::$server->command('SCRIPT', 'FLUSH');
            $s = $this->visit($m, $token);
            (new Counter('n'))->add($s);
            $s->finish();
        }
        self::assertSame(3, (new Counter('n'))->get($this->visit($m, $token)));
    }

    public function testServerIsGoneAndComesBack(): void
    {
        $server = RedisServer::start('--appendonly', 'yes', '--appendfsync', 'always');
        foreach (['closure' => fn () => $server->client(), 'object' => $server->client(), 'URL' => null] as $redis) {
            $m = $redis === null ? new Manager(Store::connect($server->url, timeout: RedisServer::PATIENCE)) : $this->manager($redis);
            $token = $this->begin($m);
            $server->stop();
            $began = hrtime(true);
            $this->refused(Problem::Unavailable, fn () => $this->visit($m, $token)->load());
            $this->refused(Problem::Unavailable, fn () => $this->begin($m));
            self::assertLessThan(RedisServer::PATIENCE / 2, (hrtime(true) - $began) / 1e9, 'no request waits for the timeout');
            $server->run();
            if ($redis instanceof \Redis) {
                // phpredis does not connect again: that is no empty session.
                $this->refused(Problem::Unavailable, fn () => $this->visit($m, $token)->load());
            } else {
                self::assertSame('dark', (new Value('theme'))->get($this->visit($m, $token)));
            }
        }
    }

    public function testForkedProcessUsesAConnectionOfItsOwn(): void
    {
        $m = $this->manager();
        $token = $this->begin($m);
        $children = [];
        for ($i = 0; $i < 4; $i++) {
            $pid = pcntl_fork();
            if ($pid === 0) {
                $status = 1;
                try {
                    for ($n = 0; $n < 25; $n++) {
                        $s = $this->visit($m, $token);
                        (new Counter('n'))->add($s);
                        (new Map('m'))->set($s, "$i:$n", $i);
                        $s->commit();
                    }
                    $status = (new Value('theme'))->get($s) === 'dark' ? 0 : 2;
                } finally {
                    posix_kill((int) getmypid(), $status === 0 ? SIGTERM : SIGKILL);
                }
            }
            $children[] = $pid;
        }
        for ($n = 0; $n < 25; $n++) {
            self::assertSame('dark', (new Value('theme'))->get($this->visit($m, $token)));
        }
        foreach ($children as $pid) {
            pcntl_waitpid($pid, $status);
            self::assertSame(SIGTERM, pcntl_wtermsig($status));
        }
        $s = $this->visit($m, $token);
        self::assertSame(100, (new Counter('n'))->get($s));
        self::assertCount(100, iterator_to_array((new Map('m'))->all($s)));
    }

    public function testForkedProcessDoesNotUseTheParentsObject(): void
    {
        $m = $this->manager(self::$server->client());
        $token = $this->begin($m);
        $pid = pcntl_fork();
        if ($pid === 0) {
            $signal = SIGKILL;
            try {
                $this->visit($m, $token)->load();
            } catch (SessionException $e) {
                $signal = $e->is(Problem::Unavailable) && str_contains($e->getMessage(), 'closure') ? SIGTERM : SIGKILL;
            }
            posix_kill((int) getmypid(), $signal);
        }
        pcntl_waitpid($pid, $status);
        self::assertSame(SIGTERM, pcntl_wtermsig($status));
        self::assertSame('dark', (new Value('theme'))->get($this->visit($m, $token)));
    }

    public function testEndWaitsForReplicas(): void
    {
        $primary = RedisServer::start('--repl-diskless-sync-delay', '0');
        $m = $this->manager(fn () => $primary->client(), 1);
        $token = $this->begin($m);
        $this->refused(Problem::UnknownOutcome, fn () => $this->visit($m, $token)->signOut());
        self::assertNull($this->visit($m, $token)->handle(), 'it has ended nevertheless');
        $replica = RedisServer::start('--replicaof', "127.0.0.1 {$primary->port()}");
        $client = $primary->client();
        Await::that('the replica is synchronized', fn (): bool => $client->set('synchronized', '1') && (int) $client->rawCommand('WAIT', '1', '100') === 1);
        $m = $this->manager(fn () => $primary->client(), 1, (int) (RedisServer::PATIENCE * 500));
        $token = $this->begin($m);
        $s = $this->visit($m, $token);
        $s->signIn(new Login('ada'));
        self::assertSame(1, $m->revokeUser('ada'));
        $token = $this->begin($m);
        $this->visit($m, $token)->signOut();
        self::assertStringContainsString('@ended', implode(' ', array_merge(...array_map(
            fn (string $key): array => array_keys($replica->hash($key)), $replica->command('KEYS', '*:s:*'),
        ))));
        $m->revokeAll();
    }

    /** The old primary becomes a replica, and refuses to write: the new one gets the next try. */
    public function testChangeGoesToThePromotedReplica(): void
    {
        $old = RedisServer::start('--repl-diskless-sync-delay', '0');
        $new = RedisServer::start('--replicaof', "127.0.0.1 {$old->port()}");
        $primary = $old;
        $m = $this->manager(function () use (&$primary): \Redis {
            return $primary->client();
        });
        $token = $this->begin($m);
        $s = $this->visit($m, $token);
        (new Counter('n'))->add($s);
        Await::that('the replica has the session', fn (): bool => $new->command('KEYS', '*:s:*') !== []);
        $new->command('REPLICAOF', 'NO', 'ONE');
        $old->command('REPLICAOF', '127.0.0.1', (string) $new->port());
        $primary = $new;
        $s->finish();
        self::assertSame(1, (new Counter('n'))->get($this->visit($m, $token)));
        self::assertSame('1', $new->hash($new->command('KEYS', '*:s:*')[0])['n']);
        $s = $this->visit($m, $token);
        $s->signIn(new Login('ada'));
        self::assertSame(1, $m->revokeUser('ada'));
        $old->stop();
        $new->stop();
    }

    /** The rule of format/README.md is enough. */
    public function testAclOfTheFormat(): void
    {
        $readme = file_get_contents(dirname(__DIR__, 3) . '/format/README.md');
        self::assertSame(1, preg_match('/ACL SETUSER coatcheck on >PASSWORD (resetchannels .*)/', $readme, $rule));
        self::$server->command('ACL', 'SETUSER', 'coatcheck', 'on', '>pw', ...explode(' ', $rule[1]));
        $m = new Manager(Store::connect('redis://coatcheck:pw@127.0.0.1:' . self::$server->port() . '/0', timeout: RedisServer::PATIENCE), new Config(maxPerUser: 2, userFields: [new Counter('n')]));
        for ($i = 0; $i < 12; $i++) {
            $token = $this->begin($m);
            $s = $this->visit($m, $token);
            (new Counter('n'))->add($s);
            $s->signIn(new Login('ada'));
            $s->renew();
            (new Value('theme'))->set($s->userData(), $i);
            $s->finish();
            $s = $this->visit($m, $s->out->token->text($m->keys));
            (new Counter('n'))->add($s->userData());
            $s->finish();
        }
        self::assertSame(24, (new Counter('n'))->get($m->userData('ada')));
        self::assertCount(2, iterator_to_array($m->sessions('ada'), false));
        $m->revoke('ada', $s->handle());
        $m->revokeUser('ada');
        $m->revokeAll();
        self::assertSame([], iterator_to_array($m->sessions('ada'), false));
    }

    public function testLimitOfAUserWithMoreSessionsThanAScriptTakes(): void
    {
        $store = new Store(fn () => self::$server->client(), 'many' . bin2hex(random_bytes(6)));
        $any = new Manager($store);
        for ($i = 0; $i < 1010; $i++) {
            $s = $this->visit($any);
            $s->signIn(new Login('ada'));
        }
        $refusing = new Manager($store, new Config(maxPerUser: 3, refuseExtra: true));
        $this->refused(Problem::TooMany, fn () => $this->visit($refusing)->signIn(new Login('ada')));
        self::assertCount(1010, iterator_to_array($any->sessions('ada'), false));
        $limited = new Manager($store, new Config(maxPerUser: 3));
        $s = $this->visit($limited);
        $s->signIn(new Login('ada'));
        $handles = array_map(fn (Info $info): string => $info->handle, iterator_to_array($any->sessions('ada'), false));
        self::assertCount(3, $handles);
        self::assertSame($s->handle(), $handles[0]);
    }

    public function testReplicasOfAClusterAreNotRead(): void
    {
        $cluster = $this->createMock(\RedisCluster::class);
        $cluster->method('getOption')->willReturn(\RedisCluster::FAILOVER_DISTRIBUTE);
        $this->expectException(\InvalidArgumentException::class);
        new Store($cluster);
    }

    public function testCluster(): void
    {
        $nodes = [];
        for ($i = 0; $i < 3; $i++) {
            $nodes[] = RedisServer::start('--cluster-enabled', 'yes', '--cluster-node-timeout', '60000');
        }
        $slots = [[0, 5460], [5461, 10922], [10923, 16383]];
        foreach ($nodes as $i => $node) {
            $node->command('CLUSTER', 'ADDSLOTSRANGE', ...array_map(strval(...), $slots[$i]));
            $node->command('CLUSTER', 'SET-CONFIG-EPOCH', (string) ($i + 1));
            $node->command('CLUSTER', 'MEET', '127.0.0.1', (string) $nodes[0]->port());
        }
        foreach ($nodes as $node) {
            Await::that('the Cluster is complete', fn (): bool => preg_match(
                '/cluster_state:ok.*cluster_known_nodes:3/s', (string) $node->command('CLUSTER', 'INFO'),
            ) === 1);
        }
        $m = new Manager(
            Store::connect(
                'redis-cluster://' . implode(',', array_map(fn (RedisServer $n): string => "127.0.0.1:{$n->port()}", $nodes)), timeout: RedisServer::PATIENCE,
            ),
            new Config(keepFields: ['n'], userFields: [new Counter('cart')], maxPerUser: 3),
        );
        $tokens = [];
        for ($i = 0; $i < 6; $i++) {
            $token = $this->begin($m);
            $s = $this->visit($m, $token);
            (new Counter('n'))->add($s, 5);
            (new Counter('cart'))->add($s, 2);
            $s->commit();
            self::assertSame(5, (new Counter('n'))->get($s));
            $s->signIn(new Login($i < 4 ? 'ada' : "user$i"));
            self::assertSame(5, (new Counter('n'))->get($s));
            self::assertNull((new Value('theme'))->get($s));
            $s->finish();
            $tokens[] = $s->out->token->text($m->keys);
            $this->refused(Problem::Ended, fn () => (new Value('theme'))->set($this->visit($m, $token), 1));
        }
        self::assertCount(3, iterator_to_array($m->sessions('ada'), false));
        self::assertSame(8, (new Counter('cart'))->get($m->userData('ada')));
        self::assertSame(3, $m->deleteUser('ada'));
        self::assertSame(0, (new Counter('cart'))->get($m->userData('ada')));
        $key = "coatcheck:{" . substr((string) $this->visit($m, $tokens[5])->handle(), 0, 4) . '}:s:' . substr((string) $this->visit($m, $tokens[5])->handle(), 5);
        $m->revokeAll();
        self::assertNull($this->visit($m, $tokens[5])->user());
        $cluster = new \RedisCluster(null, ["127.0.0.1:{$nodes[0]->port()}"]);
        self::assertSame(0, (int) $cluster->exists($key));
        $cluster->rawCommand($key, 'SET', $key, 'x'); // an error, and no missing session
        $this->refused(Problem::Unavailable, fn () => $this->visit($m, $tokens[5])->load());
        foreach ($nodes as $node) {
            $node->stop();
        }
        $this->refused(Problem::Unavailable, fn () => $this->visit($m, $tokens[4])->load());
    }
}
