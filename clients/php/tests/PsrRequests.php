<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Config;
use Coatcheck\Session\Counter;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Middleware;
use Coatcheck\Session\Session;
use Coatcheck\Session\Store;
use Nyholm\Psr7\Factory\Psr17Factory;
use Nyholm\Psr7\ServerRequest;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Server\MiddlewareInterface;
use Psr\Http\Server\RequestHandlerInterface;

/** Requests to the Middleware, with the messages of nyholm/psr7, as a browser makes them. */
trait PsrRequests
{
    private Manager $manager;
    private string $namespace;
    /** @var array<string, string> */
    private array $jar = [];
    /** @var list<string> */
    private array $log = [];

    protected function setUp(): void
    {
        $this->namespace = 'psr' . bin2hex(random_bytes(6));
        $this->configure();
        $this->jar = [];
    }

    private function configure(mixed ...$config): void
    {
        $server = RedisServer::single();
        $this->manager = new Manager(
            Store::connect($server->url, $this->namespace, timeout: RedisServer::PATIENCE), new Config(...$config), function (string $m): void {
                $this->log[] = $m;
            },
        );
    }

    /** @param \Closure(Session, ServerRequestInterface): mixed $page */
    private function handler(\Closure $page): RequestHandlerInterface
    {
        return new class ($page) implements RequestHandlerInterface {
            public function __construct(private readonly \Closure $page)
            {
            }

            public function handle(ServerRequestInterface $request): ResponseInterface
            {
                $out = ($this->page)(Session::of($request), $request);
                if ($out instanceof ResponseInterface) {
                    return $out;
                }
                $response = (new Psr17Factory())->createResponse();
                $response->getBody()->write((string) json_encode($out));
                return $response;
            }
        };
    }

    /** @param array<string, string|list<string>> $headers */
    private function request(\Closure $page, string $method = 'GET', array $headers = [], ?MiddlewareInterface $inner = null, array $form = []): ResponseInterface
    {
        $request = (new ServerRequest($method, 'https://shop.example/', $headers))->withParsedBody($form);
        if ($this->jar !== []) {
            $request = $request->withHeader('Cookie', Web::jar($this->jar));
        }
        $handler = $this->handler($page);
        if ($inner !== null) {
            $handler = new class ($inner, $handler) implements RequestHandlerInterface {
                public function __construct(private readonly MiddlewareInterface $inner, private readonly RequestHandlerInterface $next)
                {
                }

                public function handle(ServerRequestInterface $request): ResponseInterface
                {
                    return $this->inner->process($request, $this->next);
                }
            };
        }
        $response = (new Middleware($this->manager, new Psr17Factory()))->process($request, $handler);
        foreach ($response->getHeader('Set-Cookie') as $line) {
            [$name, $value] = explode('=', explode(';', $line)[0], 2);
            $this->jar[$name] = $value;
        }
        $this->jar = array_filter($this->jar, fn (string $v): bool => $v !== '');
        return $response;
    }

    private function add(): \Closure
    {
        return function (Session $s): int {
            (new Counter('n'))->add($s);
            return (new Counter('n'))->get($s);
        };
    }

    private function counted(): int
    {
        return (int) (string) $this->request(fn (Session $s): int => (new Counter('n'))->get($s))->getBody();
    }
}
