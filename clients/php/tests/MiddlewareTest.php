<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Config;
use Coatcheck\Session\Cookie;
use Coatcheck\Session\Counter;
use Coatcheck\Session\Login;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Middleware;
use Coatcheck\Session\Problem;
use Coatcheck\Session\Route;
use Coatcheck\Session\Session;
use Coatcheck\Session\SessionException;
use Coatcheck\Session\Store;
use Coatcheck\Session\Value;
use Nyholm\Psr7\Factory\Psr17Factory;
use Nyholm\Psr7\ServerRequest;
use PHPUnit\Framework\TestCase;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Server\RequestHandlerInterface;

/** The PSR-15 middleware, with the messages of nyholm/psr7. */
final class MiddlewareTest extends TestCase
{
    use PsrRequests;

    public function testChangeIsStoredBeforeTheResponse(): void
    {
        $response = $this->request($this->add());
        self::assertSame(200, $response->getStatusCode());
        self::assertSame('no-store', $response->getHeaderLine('Cache-Control'));
        self::assertSame('Cookie', $response->getHeaderLine('Vary'));
        self::assertStringContainsString('; HttpOnly; Secure; SameSite=Lax', $response->getHeaderLine('Set-Cookie'));
        $response = $this->request($this->add());
        self::assertSame('2', (string) $response->getBody());
        self::assertSame('', $response->getHeaderLine('Set-Cookie'));
        self::assertSame('private, no-cache', $response->getHeaderLine('Cache-Control'));
        self::assertSame(2, $this->counted());
    }

    public function testHandlerThatDoesNotUseTheSessionCostsNothing(): void
    {
        $this->request($this->add());
        $response = (new Middleware(new Manager(Store::connect('redis://127.0.0.1:1')), new Psr17Factory()))->process(
            (new ServerRequest('GET', 'https://shop.example/'))->withHeader('Cookie', Web::jar($this->jar)),
            new class implements RequestHandlerInterface {
                public function handle(ServerRequestInterface $request): ResponseInterface
                {
                    return (new Psr17Factory())->createResponse(204);
                }
            },
        );
        self::assertSame(204, $response->getStatusCode());
        self::assertSame('', $response->getHeaderLine('Vary'));
    }

    public function testExceptionDiscardsTheChanges(): void
    {
        $this->request($this->add());
        try {
            $this->request(function (Session $s): never {
                ($this->add())($s);
                throw new \DomainException('the handler fails');
            });
            self::fail('the exception is lost');
        } catch (\DomainException) {
        }
        self::assertSame(1, $this->counted());
    }

    public function testExceptionAfterASignInStillSendsTheToken(): void
    {
        $this->request($this->add());
        $response = $this->request(function (Session $s): never {
            $s->signIn(new Login('ada'));
            ($this->add())($s);
            throw new \DomainException('the handler fails');
        });
        self::assertSame(500, $response->getStatusCode());
        self::assertSame('ada', json_decode((string) $this->request(fn (Session $s): ?string => $s->user())->getBody()));
        self::assertSame(0, $this->counted());
    }

    public function testSessionThatEndsDuringTheRequestIs409(): void
    {
        $this->request($this->add());
        $jar = $this->jar;
        $response = $this->request(function (Session $s) use ($jar): string {
            ($this->add())($s);
            $this->request(fn (Session $other) => $other->signOut()); // another request
            $this->jar = $jar;
            return 'success';
        });
        self::assertSame(409, $response->getStatusCode());
        self::assertStringNotContainsString('success', (string) $response->getBody());
        self::assertSame('', $response->getHeaderLine('Set-Cookie'));
        self::assertSame(0, $this->counted());
    }

    public function testStoreThatIsDownIs503(): void
    {
        $this->request($this->add());
        $this->manager = new Manager(Store::connect('redis://127.0.0.1:1'), new Config(), fn () => null);
        $response = $this->request($this->add());
        self::assertSame(503, $response->getStatusCode());
        self::assertSame('1', $response->getHeaderLine('Retry-After'));
        self::assertSame('', $response->getHeaderLine('Set-Cookie'));
        self::assertNotSame([], $this->jar);
        $response = $this->request(fn (Session $s) => $s->signOut()); // the visitor's wish
        self::assertSame(503, $response->getStatusCode());
    }

    public function testSignOutWhileTheStoreIsDownDeletesTheCookie(): void
    {
        $this->request($this->add());
        $cookie = Web::jar($this->jar);
        $handler = new class implements RequestHandlerInterface {
            public function handle(ServerRequestInterface $request): ResponseInterface
            {
                $request->getAttribute(Session::class)->signOut();
                throw new \LogicException();
            }
        };
        $down = new Middleware(new Manager(Store::connect('redis://127.0.0.1:1'), new Config(), fn () => null), new Psr17Factory());
        $response = $down->process((new ServerRequest('POST', 'https://shop.example/'))->withHeader('Cookie', $cookie), $handler);
        self::assertSame(503, $response->getStatusCode());
        self::assertStringContainsString('__Host-session-anon=; ', $response->getHeaderLine('Set-Cookie'));
    }

    public function testErrorThatTheHandlerAnswersItself(): void
    {
        $response = $this->request(function (Session $s): ResponseInterface {
            try {
                (new Value('big'))->set($s, str_repeat('x', 70_000));
            } catch (SessionException $e) {
                self::assertTrue($e->is(Problem::TooLarge));
            }
            return (new Psr17Factory())->createResponse(413);
        });
        self::assertSame(413, $response->getStatusCode());
    }

    public function testFailedCommitThatTheHandlerSwallowsIsNoSuccess(): void
    {
        $this->request($this->add());
        $response = $this->request(function (Session $s): string {
            ($this->add())($s);
            $this->request(fn (Session $other) => $other->signOut());
            try {
                $s->commit();
            } catch (SessionException) {
            }
            return 'success';
        });
        self::assertSame(409, $response->getStatusCode());
    }

    public function testFailedReadThatTheHandlerSwallowsIsNoSuccess(): void
    {
        $this->request($this->add());
        $handler = fn (int $status): RequestHandlerInterface => new class ($status) implements RequestHandlerInterface {
            public function __construct(private readonly int $status)
            {
            }

            public function handle(ServerRequestInterface $request): ResponseInterface
            {
                try {
                    Session::of($request);
                } catch (SessionException) {
                }
                return (new Psr17Factory())->createResponse($this->status);
            }
        };
        $down = new Middleware(new Manager(Store::connect('redis://127.0.0.1:1'), new Config(), fn () => null), new Psr17Factory());
        $request = (new ServerRequest('GET', 'https://shop.example/'))->withHeader('Cookie', Web::jar($this->jar));
        self::assertSame(503, $down->process($request, $handler(200))->getStatusCode());
        self::assertSame(500, $down->process($request, $handler(500))->getStatusCode());
    }

    public function testRouteRefusesVisitors(): void
    {
        $response = $this->request(fn () => 'secret', inner: new Route(signedIn: true));
        self::assertSame(401, $response->getStatusCode());
        self::assertSame('Bearer realm="session"', $response->getHeaderLine('WWW-Authenticate'));
        $this->request(fn (Session $s) => $s->signIn(new Login('ada', methods: ['pwd'], level: 1)));
        self::assertSame(200, $this->request(fn () => 'secret', inner: new Route(signedIn: true, maxAuthAge: 60, minLevel: 1, authMethods: ['pwd']))->getStatusCode());
        foreach ([new Route(minLevel: 2), new Route(authMethods: ['otp'])] as $route) {
            $response = $this->request(fn () => 'secret', inner: $route);
            self::assertSame(401, $response->getStatusCode());
            self::assertStringContainsString('insufficient_user_authentication', $response->getHeaderLine('WWW-Authenticate'));
        }
    }

    public function testSignInReplacesTheTokenAndTheAnonymousCookie(): void
    {
        $this->request($this->add());
        $old = $this->jar;
        $this->request(function (Session $s): void {
            $s->signIn(new Login('ada'));
            (new Value('after'))->set($s, true);
        });
        self::assertSame(['__Host-session'], array_keys($this->jar));
        self::assertTrue(json_decode((string) $this->request(fn (Session $s): bool => (new Value('after'))->get($s))->getBody()));
        $this->jar = $old;
        self::assertSame(409, $this->request($this->add())->getStatusCode());
    }

    public function testTwoTokensOfOneNameAreRefusedAndDeleted(): void
    {
        $this->request($this->add());
        $one = $this->jar['__Host-session-anon'];
        $this->jar = [];
        $this->request($this->add());
        $two = $this->jar['__Host-session-anon'];
        $this->jar = ['__Host-session-anon' => "$one; __Host-session-anon=$two"];
        $response = $this->request($this->add());
        self::assertSame(400, $response->getStatusCode());
        self::assertGreaterThanOrEqual(2, count($response->getHeader('Set-Cookie')));
    }

    public function testDeadTokenBesideALiveOneDoesNotCount(): void
    {
        $this->request($this->add());
        $this->jar = ['__Host-session' => 'AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'] + $this->jar;
        self::assertSame(1, $this->counted());
    }

    public function testTwoAnonymousCookiesBehindADeadSignedInCookieAreAmbiguous(): void
    {
        $tokens = [];
        foreach ([1, 2] as $_) {
            $this->jar = [];
            $this->request($this->add());
            $tokens[] = current($this->jar);
        }
        $dead = '__Host-session=AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';
        $this->jar = [];
        $one = "$dead; __Host-session-anon=$tokens[0]";
        self::assertSame(200, $this->request($this->add(), 'GET', ['Cookie' => $one])->getStatusCode());
        $this->jar = [];
        self::assertSame(400, $this->request($this->add(), 'GET', ['Cookie' => "$one; __Host-session-anon=$tokens[1]"])->getStatusCode());
    }

    public function testCrossOriginPost(): void
    {
        $this->request($this->add());
        self::assertSame(403, $this->request($this->add(), 'POST', ['Origin' => 'https://evil.example'])->getStatusCode());
        self::assertSame(403, $this->request($this->add(), 'POST', ['Sec-Fetch-Site' => 'same-site', 'Origin' => 'https://shop.example'])->getStatusCode());
        self::assertSame(200, $this->request($this->add(), 'POST', ['Origin' => 'https://shop.example'])->getStatusCode());
        $this->configure(trustedOrigins: ['https://pay.example']);
        self::assertSame(200, $this->request($this->add(), 'POST', ['Sec-Fetch-Site' => 'cross-site', 'Origin' => 'https://pay.example'])->getStatusCode());
        self::assertSame(3, $this->counted());
    }

    /**
     * @testWith [403, "TRACE", {"Origin": "https://evil.example"}]
     *           [403, "get", {"Origin": "https://evil.example"}]
     *           [403, "GET", {"Upgrade": "WebSocket", "Origin": "https://evil.example"}]
     *           [403, "GET", {"Upgrade": "websocket", "Sec-Fetch-Site": "cross-site"}]
     *           [200, "GET", {"Upgrade": "websocket", "Origin": "https://shop.example"}]
     *           [200, "GET", {"Upgrade": "h2c", "Origin": "https://evil.example"}]
     *           [403, "POST", {"Origin": "shop.example"}]
     *           [403, "POST", {"Origin": "//shop.example"}]
     *           [403, "POST", {"Origin": "null"}]
     *           [403, "POST", {"Origin": ["https://shop.example", "https://evil.example"]}]
     *           [403, "POST", {"Origin": ["https://pay.example", "https://pay.example"]}]
     *           [403, "POST", {"Origin": ["https://a.example", "https://b.example"], "Sec-Fetch-Site": "same-origin"}]
     *           [403, "POST", {"Sec-Fetch-Site": ["same-origin", "cross-site"]}]
     *           [403, "POST", {"Sec-Fetch-Site": ["none", "none"]}]
     *           [403, "POST", {"Sec-Fetch-Site": ["", "same-origin"]}]
     *           [200, "OPTIONS", {"Sec-Fetch-Site": ["same-origin", "cross-site"]}]
     * @param array<string, string|list<string>> $headers
     */
    public function testWhichRequestsCountAsCrossOrigin(int $status, string $method, array $headers): void
    {
        $this->configure(trustedOrigins: ['https://pay.example']);
        $this->request($this->add());
        self::assertSame($status, $this->request($this->add(), $method, $headers)->getStatusCode());
        self::assertSame($status === 200 ? 2 : 1, $this->counted());
    }

    public function testCsrfToken(): void
    {
        $this->configure(csrf: true);
        $token = json_decode((string) $this->request(fn (Session $s): string => $s->csrfToken())->getBody());
        self::assertSame(403, $this->request($this->add(), 'POST')->getStatusCode());
        self::assertSame(403, $this->request($this->add(), 'POST', form: ['csrf_token' => ['x']])->getStatusCode());
        self::assertSame(200, $this->request($this->add(), 'POST', form: ['csrf_token' => $token])->getStatusCode());
        self::assertSame(200, $this->request($this->add(), 'POST', ['X-CSRF-Token' => $token])->getStatusCode());
    }

    public function testKeysSignAndForgedTokenCostsNoRoundTrip(): void
    {
        $this->configure(keys: [str_repeat('k', 32)]);
        $this->request($this->add());
        self::assertSame(76, strlen(end($this->jar)));
        $good = $this->jar;
        $this->configure(keys: [str_repeat('n', 32), str_repeat('k', 32)]);
        self::assertSame(1, $this->counted());
        $this->manager = new Manager(Store::connect('redis://127.0.0.1:1'), new Config(keys: [str_repeat('x', 32)]), fn () => null);
        $this->jar = $good;
        self::assertSame(0, $this->counted());
    }

    public function testSealedValuesAndUser(): void
    {
        $keys = ['keys' => [str_repeat('k', 32)], 'userKey' => str_repeat('u', 32), 'seal' => true, 'keepFields' => ['theme']];
        $this->configure(...$keys);
        $this->request(fn (Session $s) => (new Value('theme'))->set($s, 'dark'));
        $this->request(function (Session $s): void {
            (new Value('own'))->set($s, 'secret value');
            $s->signIn(new Login('ada', device: 'Firefox'));
        });
        $all = RedisServer::single()->command('KEYS', "$this->namespace:*:s:*");
        foreach ($all as $key) {
            self::assertDoesNotMatchRegularExpression('/dark|secret|YWRh|Firefox/', json_encode(RedisServer::single()->hash($key)));
        }
        $read = fn (Session $s): array => [(new Value('theme'))->get($s), (new Value('own'))->get($s), $s->user(), $s->info()->device];
        self::assertSame(['dark', 'secret value', 'ada', 'Firefox'], json_decode((string) $this->request($read)->getBody()));
        $this->configure(...['keys' => [str_repeat('n', 32), str_repeat('k', 32)]] + $keys);
        self::assertSame(200, $this->request($read)->getStatusCode());
        $this->manager = new Manager($this->manager->store, new Config(...['keys' => [str_repeat('n', 32)], 'unsignedUntil' => 0] + $keys), fn () => null);
        $this->jar = []; // its tokens are not accepted either
        self::assertSame(200, $this->request(fn (Session $s): ?string => $s->user())->getStatusCode());
    }

    public function testBearerToken(): void
    {
        $this->configure(bearer: true);
        $response = $this->request(function (Session $s): string {
            $s->signIn(new Login('ada'));
            return $s->bearerToken();
        });
        self::assertSame('', $response->getHeaderLine('Set-Cookie'));
        self::assertSame('no-store', $response->getHeaderLine('Cache-Control'));
        $bearer = ['Authorization' => 'Bearer ' . json_decode((string) $response->getBody())];
        self::assertSame(200, $this->request(fn () => 1, headers: $bearer, inner: new Route(signedIn: true))->getStatusCode());
        $this->request($this->add(), 'POST', $bearer + ['Origin' => 'https://evil.example']);
        self::assertSame('1', (string) $this->request(fn (Session $s): int => (new Counter('n'))->get($s), headers: $bearer)->getBody());
        self::assertSame(401, $this->request($this->add(), headers: ['Authorization' => 'Bearer AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'])->getStatusCode());
    }

    public function testNestedMiddlewareHasOneSession(): void
    {
        $inner = new Middleware($this->manager, new Psr17Factory());
        $response = $this->request($this->add(), inner: $inner);
        self::assertCount(1, $response->getHeader('Set-Cookie'));
    }

    /** @dataProvider wrongSettings */
    public function testUnsafeSettingsAreRefused(\Closure $make): void
    {
        $this->expectException(\InvalidArgumentException::class);
        $make();
    }

    public static function wrongSettings(): iterable
    {
        yield 'no prefix' => [fn () => new Cookie('sid')];
        yield 'prefix without Secure' => [fn () => new Cookie('__Host-sid', insecure: true)];
        yield '__Host- with a domain' => [fn () => new Cookie(domain: 'example.com')];
        yield 'line break in a path' => [fn () => new Cookie('__Secure-sid', path: "/a\n")];
        yield 'SameSite' => [fn () => new Cookie(sameSite: 'lax')];
        yield 'idle over lifetime' => [fn () => new Config(idleTimeout: 10, lifetime: 5)];
        yield 'rotation too often' => [fn () => new Config(rotateEvery: 30)];
        yield 'seal without keys' => [fn () => new Config(seal: true)];
        yield 'short key' => [fn () => new Manager(Store::connect('redis://localhost'), new Config(keys: ['short']))];
        yield 'zero key' => [fn () => new Manager(Store::connect('redis://localhost'), new Config(keys: [str_repeat("\0", 32)]))];
        yield 'namespace' => [fn () => Store::connect('redis://localhost', 'a:b')];
        yield 'URL' => [fn () => Store::connect('http://localhost')];
    }
}
