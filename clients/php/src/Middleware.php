<?php

declare(strict_types=1);

namespace Coatcheck\Session;

use Psr\Http\Message\ResponseFactoryInterface;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Server\MiddlewareInterface;
use Psr\Http\Server\RequestHandlerInterface;

/**
 * PSR-15 middleware. Handlers inside it get their session with Session::of($request). What they
 * change is committed before the response is returned. If the commit fails, the client gets an
 * error response instead.
 *
 * If a handler throws, its changes are dropped. A SessionException becomes a response with its
 * status. Other exceptions go on, unless the request has committed a new token, as of a sign-in:
 * then the response is a 500 that carries it. So put the application's error handler outside. One
 * inside must call $session->discard(), since its response is a success to this middleware.
 */
final class Middleware implements MiddlewareInterface
{
    /**
     * @param \Closure(SessionException, ServerRequestInterface): ResponseInterface|null $onError
     *     answers a failed request. Do not show the exception's text. Default: the status, and a
     *     sentence in plain text
     */
    public function __construct(
        private readonly Manager $manager,
        private readonly ResponseFactoryInterface $responses,
        private readonly ?\Closure $onError = null,
    ) {
    }

    public function process(ServerRequestInterface $request, RequestHandlerInterface $handler): ResponseInterface
    {
        if ($request->getAttribute(Session::class) instanceof Session) {
            return $handler->handle($request); // it is nested: one session, one cookie
        }
        $in = Incoming::fromPsr($request);
        $session = $this->manager->begin($in);
        $request = $request->withAttribute(Session::class, $session);
        try {
            $this->manager->check($in, $session);
            $response = $handler->handle($request);
        } catch (SessionException $e) {
            $session->abandon();
            return $this->finished($this->answer($e, $request), $in, $session);
        } catch (\Throwable $e) {
            $session->abandon();
            if ($session->out->cookie !== Outgoing::SET) {
                throw $e;
            }
            $this->manager->warn("the handler failed after it had committed a new token: $e");
            return $this->finished($this->responses->createResponse(500), $in, $session);
        }
        try {
            $session->finish();
        } catch (SessionException $e) {
            // A handler that knows of the error may answer itself.
            if (!$session->knowsOf($e) || $response->getStatusCode() < 400) {
                $response = $this->answer($e, $request);
            }
        }
        return $this->finished($response, $in, $session);
    }

    private function answer(SessionException $e, ServerRequestInterface $request): ResponseInterface
    {
        if ($this->onError !== null) {
            $response = ($this->onError)($e, $request);
        } else {
            if ($e->getStatusCode() >= 500) {
                $this->manager->warn("request failed: {$e->getMessage()}");
            }
            $response = $this->responses->createResponse($e->getStatusCode())->withHeader('Content-Type', 'text/plain; charset=utf-8');
            $response->getBody()->write($e->problem->message() . "\n");
        }
        foreach ($e->getHeaders() as $name => $value) {
            $response = $response->withHeader($name, $value);
        }
        return $response;
    }

    private function finished(ResponseInterface $response, Incoming $in, Session $session): ResponseInterface
    {
        $headers = $this->manager->headers($in, $session, $response->getHeaderLine('Vary'), $response->hasHeader('Cache-Control'));
        foreach ($headers as $name => $values) {
            $response = $name === 'Set-Cookie' || $name === 'Vary'
                ? ($values === [] ? $response : $response->withAddedHeader($name, $values))
                : $response->withHeader($name, $values);
        }
        if (($headers['Cache-Control'] ?? []) === ['no-store']) {
            $response = $response->withoutHeader('Cdn-Cache-Control')->withoutHeader('Surrogate-Control');
        }
        $session->touch();
        return $response;
    }
}
