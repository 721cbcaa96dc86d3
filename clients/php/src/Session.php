<?php

declare(strict_types=1);

namespace Coatcheck\Session;

use Psr\Http\Message\ServerRequestInterface;

/**
 * One request's view of a visitor's session, with the changes that the request made.
 *
 * These methods talk to the store: load, commit, renew, signIn, signOut, userData, csrfToken,
 * bearerToken, and take and update of the fields. The others work on the view. The first use of a
 * session that was not loaded loads it. Errors are SessionExceptions.
 */
final class Session extends Data
{
    private ?Lifecycle $lifecycle = null;
    /** @var array<string, UserData> by owner: of more than one user after another sign-in */
    private array $userData = [];

    /** @internal */
    public readonly Outgoing $out;

    /** @internal */
    public function __construct(Manager $manager, Incoming $in)
    {
        $this->state = new SessionState($manager, $in);
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
     * Talks to the store. Returns the data of the user who is signed in: fields that are the same
     * in all sessions of the user. While nobody is signed in, it returns the session itself, so
     * that a page is written once:
     *
     *     $cart->add($session->userData(), 'apple');
     *
     * The first call of a request reads the data. If the session has Config::$userFields from
     * before the sign-in, it moves them to the user's data, in one atomic step. The middleware
     * commits the session first, and then the data. After an error of either, the data is
     * unchanged, or the error is UnknownOutcome.
     *
     * Throws what load() throws, and Ended. If the fields of the session do not fit into the data,
     * it throws TooLarge, Invalid or Decode, and they stay in the session until it ends.
     */
    public function userData(): Data
    {
        $this->load();
        $s = $this->state;
        $owner = $s->record->owner ?? '';
        if ($owner === '') {
            return $this;
        }
        $data = $this->userData[$owner] ??= UserData::open($s->manager, $s->principal->user, $owner, $s);
        $data->join($s);
        return $data;
    }

    /** Drops the changes that are not committed, those of the user data, too. */
    public function discard(): void
    {
        parent::discard();
        foreach ($this->userData as $data) {
            $data->discard();
        }
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
     * Kept are the fields that Config::$keepFields and $userFields name of an anonymous session,
     * all of a session of the same user, none of another user's; and the changes of this request
     * that are not committed. Then $userFields move to the data of the user: see userData(). If
     * that fails, it is logged, and the next userData() moves them.
     *
     * Throws TooMany, Revoked, Invalid, and what commit() throws. After TooMany and Revoked the
     * session goes on as it was. It commits changes of user data first, and throws their errors.
     */
    public function signIn(Login $login): void
    {
        foreach ($this->userData as $data) {
            $data->close();
        }
        $this->lifecycle()->signIn($login);
        if ($this->state->userFields() === []) {
            return;
        }
        try {
            $this->userData();
        } catch (SessionException $e) {
            $this->state->manager->warn("the fields of an anonymous session did not join the data of its user yet: {$e->getMessage()}");
        }
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
        foreach ($this->userData as $data) {
            $data->reset();
        }
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

    /** Commits the session and then the user data, and does not read them again. @internal */
    public function flush(): void
    {
        parent::flush();
        foreach ($this->userData as $data) {
            $data->flush();
        }
    }

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

    public function knowsOf(SessionException $e): bool
    {
        foreach ($this->userData as $data) {
            if ($data->knowsOf($e)) {
                return true;
            }
        }
        return parent::knowsOf($e);
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
            foreach ($this->userData as $data) {
                $data->finish();
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
        foreach ($this->userData as $data) {
            $data->touch();
        }
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
