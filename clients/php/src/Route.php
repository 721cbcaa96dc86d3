<?php

declare(strict_types=1);

namespace Coatcheck\Session;

use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Server\MiddlewareInterface;
use Psr\Http\Server\RequestHandlerInterface;

/** What a route requires of its sessions: a PSR-15 middleware for inside the Middleware. */
final class Route implements MiddlewareInterface
{
    /**
     * @param bool $signedIn refuses visitors who are not signed in, with status 401
     * @param float $maxAuthAge how long ago the user may have authenticated, in seconds; 0: any
     * @param int $minLevel the assurance level that the sign-in must have recorded
     * @param list<string> $authMethods that the sign-in must have recorded
     * @param bool $passive a request does not count as a use of the session
     */
    public function __construct(
        private readonly bool $signedIn = false,
        private readonly float $maxAuthAge = 0,
        private readonly int $minLevel = 0,
        private readonly array $authMethods = [],
        private readonly bool $passive = false,
    ) {
    }

    /** Throws NotSignedIn or NotFresh. It is for applications without PSR-15. */
    public function check(Session $session): void
    {
        if ($this->passive) {
            $session->setPassive();
        }
        if (!$this->signedIn && $this->maxAuthAge === 0.0 && $this->minLevel === 0 && $this->authMethods === []) {
            return;
        }
        $info = $session->info();
        if ($info->user === '') {
            throw new SessionException(Problem::NotSignedIn);
        }
        if ($this->maxAuthAge > 0 && $session->time() - $info->authenticated > $this->maxAuthAge
            || $info->level < $this->minLevel || \array_diff($this->authMethods, $info->methods) !== []) {
            throw new SessionException(Problem::NotFresh);
        }
    }

    public function process(ServerRequestInterface $request, RequestHandlerInterface $handler): ResponseInterface
    {
        $this->check(Session::of($request));
        return $handler->handle($request);
    }
}
