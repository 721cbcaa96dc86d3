<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use PHPUnit\Framework\TestCase;

/** Requests to real PHP processes, many at the same time. */
final class WebTest extends TestCase
{
    private static RedisServer $redis;
    private static Web $web;
    private string $ns = '';
    /** @var array<string, string> */
    private array $jar = [];

    public static function setUpBeforeClass(): void
    {
        self::$redis = RedisServer::start();
        self::$web = Web::start(self::$redis->url);
        fwrite(STDERR, "\nweb: " . self::$web->name . "\n");
    }

    public static function tearDownAfterClass(): void
    {
        self::$web->stop();
        self::$redis->stop();
    }

    protected function setUp(): void
    {
        $this->ns = 'web' . bin2hex(random_bytes(6));
        $this->jar = [];
    }

    private function url(string $path): string
    {
        return $path . (str_contains($path, '?') ? '&' : '?') . "ns=$this->ns";
    }

    /** Makes a request as a browser does. */
    private function visit(string $path, int $status = 200, string $method = 'GET', array $headers = []): string
    {
        [$header, $body] = self::$web->get($this->url($path), Web::jar($this->jar), $method, $headers);
        self::assertSame($status, Web::status($header), "$path: $header\n$body\n" . ($status < 500 ? self::$web->log() : ''));
        $this->jar = array_filter(Web::cookies($header) + $this->jar, fn (string $v): bool => $v !== '');
        $this->header = $header;
        return $body;
    }

    private string $header = '';

    private function json(string $path): mixed
    {
        return json_decode($this->visit($path), true);
    }

    /** @return list<string> statuses */
    private function together(int $times, string ...$paths): array
    {
        $requests = [];
        for ($i = 0; $i < $times; $i++) {
            foreach ($paths as $path) {
                $requests[] = [$this->url(str_replace('<i>', (string) $i, $path)), Web::jar($this->jar)];
            }
        }
        return array_map(fn (array $reply): int => Web::status($reply[0]), self::$web->all($requests));
    }

    public function testConcurrentRequestsLoseNoWrite(): void
    {
        $this->visit('/plain/add');
        self::assertSame([200], array_values(array_unique($this->together(40, '/plain/add?key=<i>&n=<i>&us=2000'))));
        $shown = $this->json('/plain/show');
        self::assertSame(41, $shown['count']);
        self::assertCount(41, $shown['pages']);
    }

    public function testConcurrentChangesOfTwoKeysOfSessionBothTakeEffect(): void
    {
        $this->visit('/native/set?key=begin&value=1');
        self::assertSame([200], array_values(array_unique($this->together(1, ...array_map(
            fn (int $i): string => "/native/set?key=k$i&value=$i&us=20000", range(1, 20),
        )))));
        $shown = $this->json('/native/show');
        self::assertCount(21, $shown);
        self::assertSame(20, $shown['k20']);
    }

    /** @dataProvider slowPages */
    public function testSignOutDuringASlowRequestIsFinal(string $slow, string $out, string $show): void
    {
        $this->visit('/plain/signin');
        $jar = Web::jar($this->jar);
        $key = self::$redis->command('KEYS', "$this->ns:*:s:*")[0];
        $slowPage = self::$web->send($this->url($slow), $jar);
        self::assertNotSame([], self::$redis->client()->blPop(["$this->ns-read"], 30));
        [$header] = self::$web->get($this->url($out), $jar);
        self::assertSame(200, Web::status($header));
        self::$redis->command('RPUSH', "$this->ns-go", '1');
        [$header, $body] = self::$web->receive($slowPage);
        self::assertSame(409, Web::status($header));
        self::assertStringNotContainsString('done', $body);
        self::assertSame([], Web::cookies($header));
        self::assertSame(['@ended'], array_keys(self::$redis->hash($key)));
        [$header, $body] = self::$web->get($this->url($show), $jar);
        self::assertStringNotContainsString('written', $body);
        self::assertSame(200, Web::status($header));
    }

    public static function slowPages(): iterable
    {
        yield 'plain' => ['/plain/slow', '/plain/signout', '/plain/show'];
        yield '$_SESSION' => ['/native/slow', '/native/destroy', '/native/show'];
    }

    public function testCookieIsSecureAndResponseIsNotCached(): void
    {
        $this->visit('/native/set?key=a&value=1');
        self::assertMatchesRegularExpression('/^Set-Cookie: __Host-session-anon=[\w-]{52}; Path=\/; HttpOnly; Secure; SameSite=Lax\r?$/mi', $this->header);
        self::assertMatchesRegularExpression('/^Cache-Control: no-store\r?$/mi', $this->header);
        self::assertMatchesRegularExpression('/^Vary: Cookie\r?$/mi', $this->header);
        $this->visit('/native/show');
        self::assertDoesNotMatchRegularExpression('/^Set-Cookie/mi', $this->header);
        self::assertMatchesRegularExpression('/^Cache-Control: private, no-cache\r?$/mi', $this->header);
    }

    public function testVisitorWhoWritesNothingIsNotStored(): void
    {
        $this->visit('/native/show');
        self::assertSame([], $this->jar);
        self::assertSame([], self::$redis->command('KEYS', "$this->ns:*"));
    }

    /** @dataProvider unknownTokens */
    public function testForeignTokenIsNotAdopted(string $token): void
    {
        $this->jar = ['__Host-session' => $token, 'PHPSESSID' => 'attacker', '__Host-session-anon' => $token];
        $this->visit('/native/set?key=a&value=1&PHPSESSID=attacker');
        self::assertNotContains($token, array_intersect_key($this->jar, ['__Host-session-anon' => 1]));
        self::assertSame(['a' => 1], $this->json('/native/show'));
    }

    public static function unknownTokens(): iterable
    {
        yield 'well-formed' => ['AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'];
        yield 'PHP\'s own' => ['0123456789abcdef0123456789abcdef'];
        yield 'a hash that == compares as 0' => ['0e462097431906509019562988736854'];
    }

    public function testValuesOfSessionKeepTheirTypes(): void
    {
        $values = ['f' => '1.0', 'i' => '1', 's' => '"1"', 'n' => 'null', 'l' => '[]', 'b' => 'false', 'u' => '"\u00e9"', '5' => '{"1":"a"}'];
        foreach ($values as $key => $value) {
            $this->visit("/native/set?key=$key&value=" . rawurlencode($value));
        }
        self::assertSame('float', $this->visit('/native/type?key=f'));
        self::assertSame('int', $this->visit('/native/type?key=i'));
        self::assertSame('string', $this->visit('/native/type?key=s'));
        self::assertSame('array', $this->visit('/native/type?key=5'));
        self::assertSame('array', $this->visit('/native/type?key=l'));
        $hash = self::$redis->hash(self::$redis->command('KEYS', "$this->ns:*:s:*")[0]);
        self::assertSame('1.0', $hash['f']);
        self::assertSame('{"1":"a"}', $hash['5']);
        self::assertSame('[]', $hash['l']);
    }

    public function testEmptyObjectAndOtherSpacingOfAnotherLanguageStay(): void
    {
        $this->visit('/native/set?key=a&value=1');
        $key = self::$redis->command('KEYS', "$this->ns:*:s:*")[0];
        self::$redis->command('EVAL', "local s=redis.call('HGET',KEYS[1],'@s') redis.call('HSET',KEYS[1],'o','{ }','c','{ \"x\" : [ ] }','@s',"
            . "string.sub(s,1,36)..string.format('%08x',tonumber(string.sub(s,37,44),16)+18)..string.sub(s,45))", '1', $key);
        self::assertSame('ArrayObject', $this->visit('/native/type?key=o'));
        $this->visit('/native/set?key=a&value=2');
        $hash = self::$redis->hash($key);
        self::assertSame(['{ }', '{ "x" : [ ] }', '2'], [$hash['o'], $hash['c'], $hash['a']]);
    }

    /**
     * @testWith ["123456789012345678901234567890"]
     *           ["deep"]
     */
    public function testValueThatPhpCannotHoldIsNotShownAndStays(string $json): void
    {
        $json = $json === 'deep' ? str_repeat('[', 600) . str_repeat(']', 600) : $json;
        $this->visit('/native/set?key=mine&value=1');
        $key = self::$redis->command('KEYS', "$this->ns:*:s:*")[0];
        $size = hexdec(substr(self::$redis->hash($key)['@s'], 36, 8)) + strlen('theirs' . $json);
        self::$redis->command('HSET', $key, 'theirs', $json, '@s', substr_replace(self::$redis->hash($key)['@s'], sprintf('%08x', $size), 36, 8));
        self::assertSame(['mine' => 1], $this->json('/native/show'));
        $this->visit('/native/set?key=mine&value=2');
        self::assertSame(['mine' => 2], $this->json('/native/show'));
        self::assertSame($json, self::$redis->hash($key)['theirs']);
        $this->visit('/native/set?key=theirs&value=3');
        self::assertSame('3', self::$redis->hash($key)['theirs']);
        $this->visit('/native/destroy');
        self::assertSame([], $this->jar);
    }

    public function testExceptionDiscardsChanges(): void
    {
        $this->visit('/native/set?key=a&value=1');
        self::assertStringNotContainsString('never seen', $this->visit('/native/throw', 500) . $this->visit('/plain/throw', 500));
        self::assertSame(['a' => 1], $this->json('/native/show'));
        self::assertSame(0, $this->json('/plain/show')['count']);
    }

    /**
     * @testWith [""]
     *           ["buffer"]
     */
    public function testPageThatCallsExitIsCommitted(string $and): void
    {
        $this->visit('/plain/add');
        self::assertSame('moved', $this->visit("/plain/exit?and=$and", 302));
        self::assertStringContainsString('Vary: Cookie', $this->header);
        self::assertSame(2, $this->json('/plain/show')['count']);
    }

    public function testSignInAndSignOutBeforeExitSendTheirCookie(): void
    {
        $this->visit('/plain/add');
        $this->visit('/plain/exit?and=signin', 302);
        self::assertSame(['__Host-session'], array_keys($this->jar));
        self::assertSame(['count' => 2, 'pages' => [], 'user' => 'ada'], $this->json('/plain/show'));
        $this->visit('/plain/exit?and=signout', 302);
        self::assertSame([], $this->jar);
    }

    public function testExitDoesNotHideThatTheCommitFails(): void
    {
        $this->visit('/plain/add');
        $this->visit('/plain/exit?and=signin', 302);
        self::assertStringNotContainsString('moved', $this->visit('/plain/exit?and=revoke', 409));
    }

    public function testFatalErrorDiscardsChanges(): void
    {
        $this->visit('/plain/add');
        $this->visit('/plain/fatal', 500);
        self::assertSame(1, $this->json('/plain/show')['count']);
    }

    public function testWhatJsonCannotHoldIsRefusedBeforeTheFirstByte(): void
    {
        $this->visit('/native/set?key=a&value=1');
        self::assertStringNotContainsString('never seen', $this->visit('/native/object', 500) . $this->visit('/native/badname', 500)
            . $this->visit('/native/badname?key=map%3Aentry', 500));
        $this->visit('/native/loop', 500);
        Await::that('the error is in the log', fn (): bool => str_contains(self::$web->log(), 'Recursion detected'));
        self::assertSame(['a' => 1], $this->json('/native/show'));
    }

    public function testSignInKeepsOnlyKeepFields(): void
    {
        $this->visit('/native/set?key=cart&value=%5B1%5D');
        $this->visit('/native/set?key=planted&value=1');
        $before = $this->jar;
        self::assertSame(['cart' => [1]], $this->json('/native/signin'));
        self::assertArrayHasKey('__Host-session', $this->jar);
        self::assertArrayNotHasKey('__Host-session-anon', $this->jar);
        self::assertSame(['cart' => [1]], $this->json('/native/show'));
        $this->jar = $before; // the old token sees an empty session, and cannot write
        self::assertSame([], $this->json('/native/show'));
        $this->visit('/native/set?key=a&value=1', 409);
    }

    public function testRegenerateReplacesTheTokenAndKeepsTheSession(): void
    {
        foreach (['/native/regenerate', '/native/regenerate?delete=1'] as $regenerate) {
            $this->visit('/native/set?key=a&value=1');
            $old = $this->jar;
            $this->visit($regenerate);
            self::assertNotSame($old, $this->jar);
            self::assertSame(['a' => 1], $this->json('/native/show'));
            $new = $this->jar;
            $this->jar = $old;
            $this->visit('/native/set?key=b&value=1', 409);
            $this->jar = $new;
        }
    }

    public function testSessionIdIsALabelThatGrantsNoAccess(): void
    {
        $this->visit('/native/set?key=a&value=1');
        $this->visit('/native/show');
        preg_match('/^X-Session-Id: (\S+)/mi', $this->header, $m);
        self::assertMatchesRegularExpression('/\A[0-9a-f]{4}-[\w-]{22}-0\z/', $m[1]);
        $this->jar = ['__Host-session' => $m[1], '__Host-session-anon' => $m[1], 'PHPSESSID' => $m[1]];
        self::assertSame([], $this->json('/native/show'));
    }

    public function testDestroyEndsTheSession(): void
    {
        $this->visit('/native/set?key=a&value=1');
        $old = $this->jar;
        $this->visit('/native/destroy');
        self::assertSame([], $this->jar);
        $this->jar = $old;
        self::assertSame([], $this->json('/native/show'));
    }

    public function testValuesOfADestroyedSessionDoNotMoveToTheNextUser(): void
    {
        $this->visit('/native/signin');
        $this->visit('/native/set?key=secret&value=1');
        self::assertSame([], $this->json('/native/destroy?signin=bob'));
        self::assertSame([], $this->json('/native/show'));
        self::assertSame('bob', $this->json('/plain/show')['user']);
    }

    public function testWriteCloseAndStartAgainInOneRequest(): void
    {
        $this->visit('/native/twice');
        self::assertSame(['twice' => true], $this->json('/native/show'));
        $this->visit('/native/abort');
        self::assertSame(['twice' => true], $this->json('/native/show'));
    }

    public function testFlushedPageIsStoredBeforeAndAfterItsHeader(): void
    {
        self::assertSame('firstsecond', $this->visit('/native/flush'));
        self::assertNotSame([], $this->jar);
        self::assertSame(['before' => 1, 'after' => 2], $this->json('/native/show'));
    }

    public function testCounterOfTheSessionAddsUpBesideSession(): void
    {
        $this->visit('/native/set?key=a&value=1');
        $this->together(30, '/native/count');
        self::assertSame(30, $this->json('/plain/show')['count']);
    }

    /** @return iterable<string, array{string}> */
    public static function kinds(): iterable
    {
        yield 'plain' => ['plain'];
        yield '$_SESSION' => ['native'];
    }

    /** @dataProvider kinds */
    public function testTwoDevicesOfAUserShareABasketThatJoinsAtSignIn(string $kind): void
    {
        $this->visit("/$kind/signin");
        self::assertSame(['apple' => 1], $this->json("/$kind/basket?add=apple"));
        $phone = $this->jar;
        $this->jar = [];
        self::assertSame(['apple' => 5], $this->json("/$kind/basket?add=apple&n=5"));
        $this->visit("/$kind/signin");
        self::assertSame(['apple' => 6], $this->json("/$kind/basket"));
        self::assertSame([], preg_grep('/basket/', array_keys(self::$redis->hash(self::$redis->command('KEYS', "$this->ns:*:s:*")[0]))));
        $this->jar = $phone;
        self::assertSame(['apple' => 6, 'pear' => 2], $this->json("/$kind/basket?add=pear&n=2"));
        self::assertSame([200], array_values(array_unique($this->together(20, "/$kind/basket?add=apple", "/$kind/basket?add=plum<i>"))));
        $basket = $this->json("/$kind/basket");
        self::assertSame([26, 2, 1], [$basket['apple'], $basket['pear'], $basket['plum19']]);
    }

    public function testKeyOfSessionThatBelongsToTheUserMovesAtSignIn(): void
    {
        $this->visit('/native/set?key=theme&value="dark"');
        self::assertSame([], $this->json('/native/signin'));
        self::assertSame([], $this->json('/native/show'));
        $key = self::$redis->command('KEYS', "$this->ns:*:d:*")[0];
        self::assertSame('"dark"', self::$redis->hash($key)['theme']);
    }

    public function testUserDataChangedAfterTheHeaderOfAFlushedPageIsStored(): void
    {
        $this->visit('/native/signin');
        $this->visit('/native/basket?add=apple&flush=pear');
        self::assertSame(['apple' => 1, 'pear' => 1], $this->json('/native/basket'));
    }

    /** The client closes the connection before the page commits the session and the data. */
    public function testClientThatHangsUpDoesNotSplitTheCommits(): void
    {
        $this->visit('/plain/signin');
        $page = self::$web->send($this->url('/plain/basket?add=apple&wait=1'), Web::jar($this->jar));
        self::assertNotSame([], self::$redis->client()->blPop(["$this->ns-read"], 30));
        fclose($page);
        self::$redis->command('RPUSH', "$this->ns-go", '1');
        Await::that('the session is committed', fn (): bool => $this->json('/plain/show')['count'] === 1);
        Await::that('the data is committed', fn (): bool => self::$redis->command('KEYS', "$this->ns:*:d:*") !== []);
        self::assertSame(['apple' => 1], $this->json('/native/basket'));
    }

    /** @dataProvider kinds */
    public function testRequestOfAnEndedSessionDoesNotChangeTheBasket(string $kind): void
    {
        $this->visit("/$kind/signin");
        $jar = Web::jar($this->jar);
        $page = self::$web->send($this->url("/$kind/basket?add=apple&wait=1"), $jar);
        self::assertNotSame([], self::$redis->client()->blPop(["$this->ns-read"], 30));
        self::$web->get($this->url('/plain/signout'), $jar);
        self::$redis->command('RPUSH', "$this->ns-go", '1');
        [$header] = self::$web->receive($page);
        self::assertSame(409, Web::status($header));
        $this->visit("/$kind/signin");
        self::assertSame([], $this->json("/$kind/basket"));
    }

    public function testCrossOriginPostIsRefused(): void
    {
        $this->visit('/native/set?key=a&value=1');
        foreach (['/native/set?key=a&value=2', '/plain/add'] as $path) {
            $this->visit($path, 403, 'POST', ['Origin' => 'https://evil.example']);
            $this->visit($path, 403, 'POST', ['Sec-Fetch-Site' => 'cross-site']);
            $this->visit($path, 200, 'POST', ['Origin' => 'http://localhost']);
        }
        $this->jar = [];
        $this->visit('/native/set?key=a&value=2', 403, 'POST', ['Origin' => 'https://evil.example']);
        self::assertSame([], $this->jar);
    }

    public function testCsrfTokenIsRequired(): void
    {
        $token = $this->visit('/plain/csrf?csrf=1');
        $this->visit('/plain/add?csrf=1', 403, 'POST');
        $this->visit('/plain/add?csrf=1', 403, 'POST', ['X-CSRF-Token' => strrev($token)]);
        $this->visit('/plain/add?csrf=1', 200, 'POST', ['X-CSRF-Token' => $token]);
        self::assertSame(1, $this->json('/plain/show')['count']);
    }

    public function testStoreThatIsDownIs503AndComesBack(): void
    {
        $redis = RedisServer::start();
        $web = Web::start($redis->url);
        [$header] = $web->get('/native/set?key=a&value=1');
        $jar = Web::jar(Web::cookies($header));
        $redis->stop();
        foreach (['/native/show', '/native/set?key=a&value=2', '/plain/show', '/plain/add'] as $path) {
            $began = hrtime(true);
            [$header, $body] = $web->get($path, $jar);
            self::assertSame(503, Web::status($header), $path);
            self::assertMatchesRegularExpression('/^Retry-After: 1\r?$/mi', $header);
            self::assertSame([], Web::cookies($header));
            self::assertStringNotContainsString('set', $body);
            self::assertLessThan(RedisServer::PATIENCE / 2, (hrtime(true) - $began) / 1e9, 'no request waits for the timeout');
        }
        $redis->run();
        [$header] = $web->get('/native/set?key=a&value=1', $jar); // it has lost its data
        self::assertSame(200, Web::status($header));
        $web->stop();
    }

    public function testAutoStartIsRefused(): void
    {
        $web = Web::start(self::$redis->url, false, ['session.auto_start' => '1']);
        self::assertSame(500, Web::status($web->get('/native/show')[0]));
        Await::that('the error is in the log', fn (): bool => str_contains($web->log(), 'session.auto_start'));
        $web->stop();
    }

    public function testSettingsOfPhpDoNotChangeWhatIsStored(): void
    {
        $web = Web::start(self::$redis->url, false, [
            'serialize_precision' => '5', 'session.serialize_handler' => 'igbinary', 'session.use_strict_mode' => '0', 'session.lazy_write' => '0',
        ]);
        [$header] = $web->get($this->url('/native/set?key=f&value=0.12345678901'));
        $this->jar = Web::cookies($header);
        $web->get($this->url('/native/set?key=g&value=1'), Web::jar($this->jar));
        $hash = self::$redis->hash(self::$redis->command('KEYS', "$this->ns:*:s:*")[0]);
        self::assertSame('0.12345678901', $hash['f']);
        $web->stop();
    }
}
