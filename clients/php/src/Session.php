<?php

declare(strict_types=1);

namespace Coatcheck\Session;

use Psr\Http\Message\ServerRequestInterface;

/**
 * One request's view of a visitor's session, with the changes that the request made.
 *
 * These methods talk to the store: load, commit, renew, signIn, signOut, csrfToken, bearerToken,
 * and take and update of the fields. The others work on the view. The first use of a session that
 * was not loaded loads it. Errors are SessionExceptions.
 */
final class Session extends Data
{
    private ?Lifecycle $lifecycle = null;

    /** @internal */
    public readonly Outgoing $out;

    /** @internal */
    public function __construct(Manager $manager, Incoming $in)
    {
        parent::__construct(new SessionState($manager, $in));
        $this->out = $this->state->out;
    }

    private function lifecycle(): Lifecycle
    {
        return $this->lifecycle ??= new Lifecycle($this->state, $this->pending());
    }

    /** Returns the session of a request that went through the Middleware, and loads it. */
    public static function of(ServerRequestInterface $request): self
    {
        $session = $request->getAttribute(self::class);
        if (!$session instanceof self) {
            throw new \LogicException('session: no session in this request: put the Middleware in front');
        }
        $session->load();
        return $session;
    }

    // What the application calls

    /**
     * The handle of the session, or null if none is stored. It grants no access: show it, log it,
     * list it.
     */
    public function handle(): ?string
    {
        $this->load();
        return $this->state->status === 'live' ? $this->state->token()->handle() : null;
    }

    public function user(): ?string
    {
        $this->load();
        return $this->state->principal?->user;
    }

    public function info(): Info
    {
        return Info::of($this->handle() ?? '', $this->state->record, $this->state->principal);
    }

    /**
     * Gives the session a new token: when a user's privileges change. The old one stops working at
     * once.
     */
    public function renew(): void
    {
        $this->load();
        $this->lifecycle()->renew();
    }

    /**
     * Makes a user the session's, in a new session with a new token. The old token stops working.
     *
     * Kept are the fields that Config::$keepFields names of an anonymous session, all of a session
     * of the same user, none of another user's; and the changes of this request that are not
     * committed.
     *
     * Throws TooMany, Revoked, Invalid, and what commit() throws. After TooMany and Revoked the
     * session goes on as it was.
     */
    public function signIn(Login $login): void
    {
        $this->lifecycle()->signIn($login);
    }

    /**
     * Ends the session, at once and for all requests, and drops what was not committed. The
     * response deletes the cookie. The session is then that of an unknown visitor.
     *
     * Throws Ended if a sign-in has replaced the session: the new one is alive, and the cookie
     * stays. Throws Unavailable or UnknownOutcome if the store did not answer, or too few replicas
     * did: the session may then be alive, and the response deletes the cookie.
     */
    public function signOut(): void
    {
        $this->lifecycle()->signOut();
    }

    /**
     * A CSRF token of the session, for a hidden field "csrf_token" or the header "X-CSRF-Token".
     * Each call returns another one, and all stay valid until the session ends. It stores a session
     * that is not stored yet.
     */
    public function csrfToken(): string
    {
        $this->load();
        if ($this->state->status === 'anonymous' && $this->state->failure !== null) {
            throw $this->state->failure;
        }
        $this->store();
        return Csrf::token($this->state->id);
    }

    /** Throws Csrf if the token is not one of this session. */
    public function checkCsrf(string $token): void
    {
        if (!$this->state->opensOrDid() || !Csrf::isValid($this->state->id, $token)) {
            throw new SessionException(Problem::Csrf);
        }
    }

    /**
     * The token, for a client that sends it in the header Authorization. The response sets no
     * cookie.
     */
    public function bearerToken(): string
    {
        $this->load();
        $this->out->withhold();
        $this->out->cookie = Outgoing::HANDED_OUT;
        $this->store();
        return $this->state->token()->text($this->state->manager->keys);
    }

    /** Stores a session that is not stored yet, even if it is empty. */
    private function store(): void
    {
        if ($this->state->status === 'anonymous') {
            $this->pending()->send();
        }
        if ($this->state->status !== 'live') {
            throw new SessionException(Problem::Ended);
        }
    }

    /** The request does not count as a use of the session: for a page that polls. */
    public function setPassive(): void
    {
        $this->state->passive = true;
    }

    // What the middleware calls

    /** Reports whether the request's cookie opens a session, or did a moment ago. @internal */
    public function opensOrDid(): bool
    {
        return $this->state->opensOrDid();
    }

    /** What tells one token of the session from the next, without telling the token. @internal */
    public function label(): string
    {
        $handle = $this->handle();
        return $handle === null ? 'new-' . \bin2hex(\random_bytes(16)) : "$handle-{$this->state->token()->generation}";
    }

    /** The store's time now, in seconds since 1970. @internal */
    public function time(): float
    {
        return $this->state->now() / 1000;
    }

    /**
     * Commits before the response, rotates a token that is old, and drops a new token that another
     * request has superseded meanwhile. Throws what commit() throws.
     *
     * @internal
     */
    public function finish(): void
    {
        $s = $this->state;
        $s->finishing = true;
        try {
            if ($s->status === 'unread') {
                return;
            }
            if ($s->failure !== null) {
                throw $s->failure;
            }
            $rotated = $s->manager->config->rotateEvery > 0 && $this->lifecycle()->rotateIfDue();
            if (!$rotated && $s->view->operations() !== []) {
                $this->pending()->send();
            }
        } finally {
            $s->recheckCookie();
            $s->closed = true;
        }
    }

    /** What the middleware does when the handler has failed: nothing more is stored. @internal */
    public function abandon(): void
    {
        $this->discard();
        $this->state->recheckCookie();
        $this->state->closed = true;
    }

    /**
     * Records the use, if that is due. A failure does not fail the request.
     *
     * @internal
     */
    public function touch(): void
    {
        $s = $this->state;
        if ($s->status !== 'live' || $s->passive || $s->touched || $s->record === null) {
            return;
        }
        $issued = $s->issued || $s->renewed;
        if (!$s->record->touchDue($issued ? '' : $s->token()->verifierHash(), $s->now())) {
            return;
        }
        $store = $s->manager->store;
        try {
            if ($issued) {
                $store->apply($s->token(), $s->record, true, [], $s->manager->config->maxSize, $s->revoked, $s->now());
            } else {
                $store->touch($s->token(), $s->record, $s->revoked);
            }
        } catch (SessionException $e) {
            $s->manager->warn("a use was not recorded: {$e->getMessage()}");
        }
    }
}
