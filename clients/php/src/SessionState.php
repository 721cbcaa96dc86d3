<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The session as one request knows it, and how it is read. All of the state is here: Commit and
 * Lifecycle change it, and Session shows it to the application.
 *
 * @internal
 */
final class SessionState extends State
{
    private const RECHECK_AFTER = 50_000_000; // nanoseconds

    public ?Token $token = null;
    public ?Principal $principal = null;
    /** When everybody was revoked, or 0. */
    public int $revoked = 0;

    /** The request issued the token that it uses. */
    public bool $issued = false;
    public bool $renewed = false;
    /** The request does not count as a use. */
    public bool $passive = false;

    public readonly Outgoing $out;

    public function __construct(Manager $manager, public readonly Incoming $in)
    {
        parent::__construct($manager);
        $this->out = new Outgoing();
    }

    public function token(): Token
    {
        return $this->token ?? throw new \LogicException('session: no token');
    }

    /** Reports whether the request's cookie opens a session, or did a moment ago. */
    public function opensOrDid(): bool
    {
        return $this->id !== '' && ($this->status === 'live' || $this->status === 'moved');
    }

    // Reading

    public function load(): void
    {
        $this->out->used = true;
        if ($this->status === 'failed') {
            throw $this->failure ?? new SessionException(Problem::Unavailable);
        }
        if ($this->status !== 'unread') {
            return;
        }
        try {
            $this->readTokens();
        } catch (SessionException $e) {
            $this->status = 'failed';
            $this->failure = $this->reported = $e;
            throw $e;
        }
    }

    private function readTokens(): void
    {
        if ($this->in->ambiguous) {
            $this->out->ambiguous = !$this->in->inHeader;
            throw new SessionException(Problem::Ambiguous, 'too many tokens');
        }
        $this->status = 'anonymous';
        $twins = $this->in->twins;
        foreach ($this->in->tokens as $i => $token) {
            if ($this->status === 'anonymous') {
                $this->readToken($token);
                if ($i >= $twins) { // the rest came under the other name, as this one
                    $twins = \count($this->in->tokens);
                }
            } elseif ($this->status === 'live' && $i < $twins && !$token->sameSession($this->token())
                && $this->manager->store->read($token, $this->in->began)->opens()) {
                $this->out->ambiguous = true;
                throw new SessionException(Problem::Ambiguous, 'two live sessions under one name');
            }
        }
    }

    private function readToken(Token $token): void
    {
        $reading = $this->manager->store->read($token, $this->in->began);
        switch ($reading->outcome) {
            case 'current':
            case 'grace':
                $this->token = $token;
                $this->become($reading->record(), $reading->now, $reading->revoked);
                break;
            case 'superseded':
            case 'moved':
                $this->status = 'moved';
                $this->id = $reading->record->id ?? '';
                break;
            case 'ended during the request':
                $this->status = 'ended';
                break;
            case 'theft':
                $this->endStolen($token, $reading->record());
                break;
            case 'none': // sign-out may end what a failover brings back
            case 'ended before the request':
                $this->token ??= $token;
        }
    }

    /** Two parties have the token, and nobody can tell which is the visitor. */
    private function endStolen(Token $token, Record $record): void
    {
        $this->manager->warn("a stolen token was used, session {$token->handle()}: it ends");
        try {
            $this->manager->store->end($token, $record->owner);
        } catch (SessionException $e) {
            $this->manager->warn("it could not be ended: {$e->getMessage()}");
        }
    }

    public function refresh(): bool
    {
        try {
            $reading = $this->manager->store->read($this->token(), $this->in->began);
            if ($reading->opens()) {
                $this->become($reading->record(), $reading->now, $reading->revoked);
                return true;
            }
        } catch (SessionException) {
        }
        return false;
    }

    /** Withholds a new token that another request has superseded or ended meanwhile. */
    public function recheckCookie(): void
    {
        if ($this->out->cookie !== Outgoing::SET || $this->out->rotated || $this->token === null
            || \hrtime(true) - $this->out->confirmed < self::RECHECK_AFTER) {
            return;
        }
        try {
            $outcome = $this->manager->store->read($this->token, $this->in->began)->outcome;
        } catch (SessionException) {
            return; // it stays: without the cookie nobody could use the session
        }
        if ($outcome !== 'current') {
            $this->leaveAfter($outcome);
        }
    }

    /**
     * The stored fields that belong to the user.
     *
     * @return array<array-key, string>
     */
    public function userFields(): array
    {
        $kinds = $this->manager->config->userFieldKinds();
        return $kinds === [] ? [] : \array_filter(
            $this->record->fields ?? [],
            fn (int|string $name): bool => isset($kinds[\explode(':', (string) $name)[0]]), ARRAY_FILTER_USE_KEY,
        );
    }

    // What Commit calls

    public function create(View $view): bool
    {
        $this->mayIssueToken();
        $config = $this->manager->config;
        $token = Token::new();
        $limits = [self::ms($config->idleTimeout), self::ms($config->lifetime), self::ms($config->firstUseTimeout)];
        $time = $this->manager->store->create($token, $this->secret(), $view->fields(), ...$limits);
        $this->issue($token, false, $config->cookie->persistent ? (int) $config->lifetime : 0);
        $this->revoked = 0;
        $this->created(Record::created($token->verifierHash(), $this->id, $view, $time, ...$limits), $time);
        return true;
    }

    public function apply(array $operations): array
    {
        $reply = $this->manager->store->apply(
            $this->token(), $this->record(), $this->issued || $this->renewed, $operations, $this->manager->config->maxSize,
            $this->revoked, $this->now(),
        );
        if ($reply[0] === 'ok' || $reply[0] === 'kept') {
            $this->out->confirmed = \hrtime(true);
        }
        return $reply;
    }

    public function lose(string $reply): void
    {
        $this->leave($reply === 'gone' ? 'ended' : 'moved');
        throw new SessionException(Problem::Ended);
    }

    public function name(): string
    {
        return $this->token()->handle();
    }

    /**
     * Throws Ended unless the session is alive, and the owner is signed in. It reads the session
     * again.
     */
    public function admit(string $owner): void
    {
        if ($this->failure !== null) {
            throw $this->failure;
        }
        if ($this->status !== 'live' || $this->record()->owner !== $owner) {
            throw new SessionException(Problem::Ended, 'the user of this data is not signed in any more');
        }
        $reading = $this->manager->store->read($this->token(), $this->in->began);
        if (!$reading->opens()) {
            $this->leaveAfter($reading->outcome);
            throw new SessionException(Problem::Ended);
        }
    }

    // Changes of the state

    /**
     * Makes a stored session that of the request.
     *
     * @param int $now the server's time now
     * @param int $revoked when everybody was revoked, or 0
     */
    public function become(Record $record, int $now, int $revoked): void
    {
        if ($record->sealed) {
            $this->checkKeys($record);
        }
        $this->principal = $record->owner === '' ? null : $this->manager->principal($record, $this->token()->handle());
        $this->record = $record;
        $this->id = $record->id;
        $this->revoked = $revoked;
        $this->setNow($now);
        $this->status = 'live';
        $this->view->rebase($record->fields, $record->size);
    }

    /** The request has no session any more, for the reason that the new status gives. */
    public function leave(string $status): void
    {
        $this->status = $status;
        $this->principal = null;
        $this->record = null;
        $this->out->withhold();
    }

    private function leaveAfter(string $outcome): void
    {
        $this->leave(\in_array($outcome, ['superseded', 'moved', 'unknown'], true) ? 'moved' : 'ended');
    }

    // The token

    /** Throws if the response cannot give the client a new token. */
    public function mayIssueToken(): void
    {
        if ($this->closed) {
            throw new SessionException(Problem::HeaderSent, 'the response was made already');
        }
        if ($this->out->cookie === Outgoing::HANDED_OUT) {
            return;
        }
        if ($this->in->inHeader) {
            throw new SessionException(
                Problem::NotSignedIn, 'the token in the Authorization header opens no session, and a cookie cannot replace it: use bearerToken',
            );
        }
        // A request that another site caused came without the cookie. A new one would replace it.
        $this->in->checkOrigin($this->manager->config->trustedOrigins);
    }

    /** Makes a new token that of the request and of the response. */
    public function issue(Token $token, bool $signedIn, int $maxAge): void
    {
        $this->token = $token;
        $this->issued = true;
        $this->renewed = false;
        $this->out->token = $token;
        $this->out->rotated = false;
        $this->out->signedIn = $signedIn;
        $this->out->maxAge = $maxAge;
        $this->out->confirmed = \hrtime(true);
        if ($this->out->cookie !== Outgoing::HANDED_OUT && !$this->in->inHeader) {
            $this->out->cookie = Outgoing::SET;
        }
    }
}
