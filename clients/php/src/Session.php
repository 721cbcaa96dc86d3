<?php

declare(strict_types=1);

namespace Coatcheck\Session;

use Psr\Http\Message\ServerRequestInterface;

/**
 * One request's view of a visitor's session, with the changes that the request made.
 *
 * The file is long because all of it works on the one state of the request, and half of it is what
 * an application reads. What needs no state is elsewhere: View, Record, Store, SignIn.
 *
 * These methods talk to the store: load, commit, renew, signIn, signOut, csrfToken, bearerToken,
 * and take and update of the fields. The others work on the view. The first use of a session that
 * was not loaded loads it. Errors are SessionExceptions.
 */
final class Session
{
    private const RECHECK_AFTER = 50_000_000; // nanoseconds
    private const GRACE = '30000'; // milliseconds that a rotated token is accepted
    private const MAX_UPDATES = 100;

    /** unread, anonymous, live, ended, moved or failed */
    private string $state = 'unread';
    /** Why it cannot be read, or why the last commit failed. */
    private ?SessionException $failure = null;
    private ?Token $token = null;
    private ?Record $record = null;
    private ?Principal $principal = null;
    private string $id = ''; // the secret, of which CSRF tokens and sealing keys are derived
    private View $view;
    private int $revoked = 0;
    private int $readAt = 0; // hrtime, at which the server's time was $record's $now
    private int $now = 0;
    private bool $issued = false; // the request issued the token that it uses
    private bool $renewed = false;
    private bool $touched = false;
    private bool $closed = false; // the response was made: no new cookie any more
    private bool $passive = false;
    private bool $finishing = false;
    private ?SessionException $reported = null; // an error that the handler got

    /** @internal */
    public readonly Outgoing $out;

    /** @internal */
    public function __construct(private readonly Manager $manager, private readonly Incoming $in)
    {
        $this->out = new Outgoing();
        $this->view = new View($manager->config->maxSize);
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

    /** @internal */
    public static function checkField(string $name): void
    {
        if (\preg_match('/\A[A-Za-z0-9._-]{1,64}\z/', $name) !== 1) {
            throw new SessionException(Problem::Invalid, "\"$name\": a field's name has 1 to 64 of a-z A-Z 0-9 . _ -");
        }
    }

    // Reading

    /**
     * Reads the session, once. An unknown visitor gets an empty session, which is stored with the
     * first commit of a change. If the session ended, or got a new token, after the request began,
     * it is empty too, and takes no changes.
     *
     * Throws Unavailable, also for a record that is malformed or of another version; Sealed if a
     * key is missing; Ambiguous.
     */
    public function load(): void
    {
        $this->out->used = true;
        if ($this->state === 'failed') {
            throw $this->failure ?? new SessionException(Problem::Unavailable);
        }
        if ($this->state !== 'unread') {
            return;
        }
        try {
            $this->read();
        } catch (SessionException $e) {
            $this->state = 'failed';
            $this->failure = $this->reported = $e;
            throw $e;
        }
    }

    private function read(): void
    {
        if ($this->in->ambiguous) {
            $this->out->ambiguous = !$this->in->inHeader;
            throw new SessionException(Problem::Ambiguous, 'too many tokens');
        }
        $this->state = 'anonymous';
        $twins = $this->in->twins;
        foreach ($this->in->tokens as $i => $token) {
            if ($this->state === 'anonymous') {
                $this->readToken($token);
                if ($i >= $twins) { // the rest came under the other name, as this one
                    $twins = \count($this->in->tokens);
                }
            } elseif ($this->state === 'live' && $i < $twins && !$token->sameSession($this->token())
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
                $this->become($this->recordOf($reading), $reading->now, $reading->revoked);
                break;
            case 'superseded':
            case 'moved':
                $this->state = 'moved';
                $this->id = $reading->record->id ?? '';
                break;
            case 'ended during the request':
                $this->state = 'ended';
                break;
            case 'theft': // two parties have the token, and nobody can tell which is the visitor
                $this->manager->warn("a stolen token was used, session {$token->handle()}: it ends");
                try {
                    $this->manager->store->end($token, $reading->record?->owner);
                } catch (SessionException $e) {
                    $this->manager->warn("it could not be ended: {$e->getMessage()}");
                }
                break;
            case 'none': // sign-out may end what a failover brings back
            case 'ended before the request':
                $this->token ??= $token;
        }
    }

    private function recordOf(Reading $reading): Record
    {
        return $reading->record ?? throw new \LogicException('session: no record');
    }

    /**
     * Makes a stored session that of the request.
     *
     * @param int $now the server's time now
     * @param int $revoked when everybody was revoked, or 0
     */
    private function become(Record $record, int $now, int $revoked): void
    {
        $keys = $this->manager->keys;
        foreach ($record->fields as $name => $value) {
            if (Keys::isSealed($value)) {
                $keys->canOpen((string) $name, $value);
            }
        }
        $this->principal = $record->owner === '' ? null : $this->manager->principal($record, $this->token()->handle());
        $this->record = $record;
        $this->id = $record->id;
        $this->revoked = $revoked;
        $this->readAt = \hrtime(true);
        $this->now = $now;
        $this->state = 'live';
        $this->view->rebase($record->fields, $record->size);
    }

    private function token(): Token
    {
        return $this->token ?? throw new \LogicException('session: no token');
    }

    private function now(): int
    {
        return $this->now + \intdiv(\hrtime(true) - $this->readAt, 1_000_000);
    }

    /**
     * The handle of the session, or null if none is stored. It grants no access: show it, log it,
     * list it.
     */
    public function handle(): ?string
    {
        $this->load();
        return $this->state === 'live' ? $this->token()->handle() : null;
    }

    /** The id of the user who is signed in, or null. */
    public function user(): ?string
    {
        $this->load();
        return $this->principal?->user;
    }

    public function info(): Info
    {
        $this->load();
        return Info::of($this->handle() ?? '', $this->record, $this->principal);
    }

    /**
     * The stored text of a value, as this request sees it.
     *
     * @internal
     */
    public function stored(string $name): ?string
    {
        $this->load();
        return $this->view->get($name);
    }

    /** @internal */
    public function value(string $name): mixed
    {
        $this->load();
        $text = $this->view->get($name);
        return $text === null ? null : Json::decode($this->manager->keys->open($this->id, $name, $text), $name);
    }

    /** @internal */
    public function count(string $name): int
    {
        $this->load();
        return Text::integer($this->view->get($name) ?? '0')
            ?? throw new SessionException(Problem::Decode, "field \"$name\" is not a counter");
    }

    /**
     * The names of all fields and entries, as this request sees them.
     *
     * @return list<string>
     */
    public function names(): array
    {
        $this->load();
        return \array_map(\strval(...), \array_keys($this->view->fields()));
    }

    /** What tells one token of the session from the next, without telling the token. @internal */
    public function label(): string
    {
        return $this->handle() === null ? 'new-' . \bin2hex(\random_bytes(16)) : $this->handle() . '-' . $this->token()->generation;
    }

    /**
     * @internal
     * @return array<array-key, string>
     */
    public function entries(string $field): array
    {
        $this->load();
        return $this->view->entries($field);
    }

    // Changing

    /** @internal */
    public function change(string $kind, string $name, string $a = ''): void
    {
        $this->load();
        $this->mayChange($name, $kind === 'clear');
        $this->view->change($kind, $name, $a);
    }

    /** @internal */
    public function setValue(string $name, mixed $value): void
    {
        $this->load();
        $this->mayChange($name);
        $this->view->change('set', $name, $this->seal($name, Json::encode($value, $name)));
    }

    /** Unsets all fields. */
    public function clear(): void
    {
        $this->change('clear', '');
    }

    private function mayChange(string $name, bool $all = false): void
    {
        if ($this->failure !== null) {
            throw $this->failure;
        }
        if ($this->state === 'ended' || $this->state === 'moved') {
            throw new SessionException(Problem::Ended);
        }
        if ($this->closed && $this->state === 'anonymous') {
            throw new SessionException(Problem::HeaderSent, 'the response was made already');
        }
        if (!$all && ($why = Text::nameProblem($name)) !== null) {
            throw new SessionException(Problem::Invalid, "\"$name\": $why");
        }
    }

    private function seal(string $name, string $text): string
    {
        if (!$this->manager->config->seal) {
            return $text;
        }
        return $this->manager->keys->seal($this->secret(), $name, $text);
    }

    private function secret(): string
    {
        return $this->id === '' ? $this->id = Text::encode(\random_bytes(16)) : $this->id;
    }

    /** Drops the changes that are not committed. */
    public function discard(): void
    {
        $this->view->clearOperations();
        $this->view->rebase($this->record->fields ?? [], $this->record->size ?? 0);
    }

    // Talking to the store

    /**
     * Stores the changes made so far, in one atomic step. Afterwards the view has other requests'
     * changes too. The middleware commits by itself before the response. What is changed after it,
     * as by a streamed body, needs a commit.
     *
     * Throws Ended, Unavailable, UnknownOutcome, TooLarge, Invalid, CrossOrigin, HeaderSent. After
     * an error the changes are dropped, and the session takes no more.
     */
    public function commit(): void
    {
        $this->flush(true);
    }

    /** commit(), and only if $exact the session is read again. @internal */
    public function flush(bool $exact = false): void
    {
        $this->load();
        if ($this->failure !== null) {
            throw $this->failure;
        }
        $operations = $this->view->operations();
        if ($operations === []) {
            return;
        }
        $live = $this->state === 'live';
        [, , , $values] = $this->send();
        if ($exact && $live && $this->refresh()) {
            // Others may have changed it since: what this request changed reads as it left it.
            $this->view->settle($operations, $values);
        }
    }

    /**
     * Commits the changes, after a renewal or rotation and before one more operation.
     *
     * @param array{string, string, string, string}|null $renewal
     * @param array{string, string, string, string} ...$last
     * @return list<mixed> the reply: its status, the revision, the generation, the values. If a
     *     last operation is refused because of what is stored: "conflict" or "entries", and the
     *     stored value
     */
    private function send(?array $renewal = null, array ...$last): array
    {
        try {
            return $this->state === 'anonymous' ? $this->create($last) : $this->apply($renewal, $last);
        } catch (SessionException $e) {
            $this->fail($e);
            throw $e;
        }
    }

    private function fail(SessionException $e): void
    {
        $this->discard();
        $this->failure ??= $e;
        $this->reported = $this->finishing ? $this->reported : $e;
    }

    /** @param list<array{string, string, string, string}> $last */
    private function create(array $last): array
    {
        $this->mayIssueToken();
        $before = \count($this->view->operations());
        $refusal = $this->view->refusal($last);
        if ($refusal !== null) {
            return [$refusal, null];
        }
        $values = \array_fill(0, $before, false);
        foreach ($last as [$kind, $name, $a, $b]) {
            $value = $this->view->get($name);
            match ($kind) {
                'take' => $this->view->change('unset', $name),
                'swap' => $this->view->change('set', $name, \substr($b, 1)),
                'limit' => null,
                default => $this->view->change($kind, $name, $a),
            };
            $values[] = match ($kind) {
                'take' => $value ?? false,
                'add' => $this->view->get($name) ?? false,
                default => false,
            };
        }
        $config = $this->manager->config;
        $token = Token::new();
        $fields = $this->view->fields();
        $time = $this->manager->store->create(
            $token, $this->secret(), $fields,
            self::ms($config->idleTimeout), self::ms($config->lifetime), self::ms($config->firstUseTimeout),
        );
        $this->issue($token, false, $config->cookie->persistent ? (int) $config->lifetime : 0);
        $this->view->clearOperations();
        $record = new Record();
        $record->current = $token->verifierHash();
        $record->id = $this->id;
        $record->revision = 1;
        $record->created = $time;
        $record->idle = self::ms($config->idleTimeout);
        $record->deadline = $time + self::ms($config->lifetime);
        $record->seen = $time - $record->idle + self::ms($config->firstUseTimeout);
        $record->fields = $fields;
        $record->size = $this->view->size();
        $this->record = $record;
        $this->state = 'live';
        $this->now = $time;
        $this->readAt = \hrtime(true);
        $this->revoked = 0;
        if ($time === 0) { // an earlier try has stored it
            $this->refresh();
        }
        return ['ok', 1, 0, $values];
    }

    /**
     * @param array{string, string, string, string}|null $renewal
     * @param list<array{string, string, string, string}> $last
     */
    private function apply(?array $renewal, array $last): array
    {
        $record = $this->record ?? throw new SessionException(Problem::Ended);
        $own = [...$this->view->operations(), ...$last];
        $reply = $this->manager->store->apply(
            $this->token(), $record, $this->issued || $this->renewed, $renewal === null ? $own : [$renewal, ...$own],
            $this->manager->config->maxSize, $this->revoked, $this->now(),
        );
        switch ($reply[0]) {
            case 'ok':
            case 'kept':
                $record->revision = (int) $reply[2];
                $values = \array_slice($reply, $renewal === null ? 3 : 4);
                $this->view->settle($own, $values);
                $this->view->clearOperations();
                $record->fields = $this->view->fields();
                $record->size = $this->view->size();
                if ((int) $reply[1] > 0) {
                    $this->now = (int) $reply[1];
                    $this->readAt = \hrtime(true);
                    $this->touched = true;
                }
                $this->out->confirmed = \hrtime(true);
                return [$reply[0], $record->revision, $renewal === null ? 0 : (int) $reply[3], $values];
            case 'gone':
            case 'moved':
                $this->leave($reply[0] === 'gone' ? 'ended' : 'moved');
                throw new SessionException(Problem::Ended);
            case 'refused':
                if ($reply[2] === 'conflict' || $reply[2] === 'entries') {
                    return [$reply[2], $reply[3] ?? null];
                }
                $name = $own[(int) $reply[1]][1] ?? '';
                $large = \in_array($reply[2], ['large', 'fields'], true);
                throw new SessionException($large ? Problem::TooLarge : Problem::Invalid, "field \"$name\": {$reply[2]}");
            default:
                throw new SessionException(Problem::Unavailable, "{$this->token()->handle()}: the server replies " . \implode(' ', \array_filter($reply, \is_string(...))));
        }
    }

    /** The store's time now, in seconds since 1970. @internal */
    public function time(): float
    {
        return $this->now() / 1000;
    }

    /** Reports whether the handler got this error, from a commit of its own. @internal */
    public function knowsOf(SessionException $e): bool
    {
        return $this->reported === $e;
    }

    private static function ms(float $seconds): int
    {
        return (int) \round($seconds * 1000);
    }

    private function leave(string $state): void
    {
        $this->state = $state;
        $this->principal = null;
        $this->record = null;
        $this->out->withhold();
    }

    /** Makes the view exact. If that fails, the next commit finds out why. */
    private function refresh(): bool
    {
        try {
            $reading = $this->manager->store->read($this->token(), $this->in->began);
            if ($reading->opens()) {
                $this->become($this->recordOf($reading), $reading->now, $reading->revoked);
                return true;
            }
        } catch (SessionException) {
        }
        return false;
    }

    private function mayIssueToken(): void
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

    private function issue(Token $token, bool $signedIn, int $maxAge): void
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

    /** The seconds that the cookie of a session lives, or 0 if it goes with the browser. */
    private function cookieAge(Record $record): int
    {
        $persistent = $record->owner === '' ? $this->manager->config->cookie->persistent : $record->persistent;
        return $persistent ? \max(1, \intdiv($record->deadline - $this->now(), 1000)) : 0;
    }

    /**
     * Gives the session a new token: when a user's privileges change. The old one stops working at
     * once.
     */
    public function renew(): void
    {
        $this->load();
        $this->mayChange('', true);
        if ($this->state === 'anonymous') {
            $this->commit();
            return;
        }
        $record = $this->record ?? throw new SessionException(Problem::Ended);
        $token = $this->token()->renewed(0);
        $issuedHere = $this->issued && !$this->renewed && $this->out->cookie === Outgoing::SET;
        [, , $generation] = $this->send(['renew', $token->verifierHash(), '', '']);
        $this->issue($token->withGeneration($generation), $record->owner !== '', $this->cookieAge($record));
        $this->renewed = !$issuedHere;
        $record->current = $token->verifierHash();
        $record->unused = true;
        $record->generation = $generation;
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
        $spec = $this->manager->signInSpec($login);
        $this->load();
        if ($this->failure !== null && $this->failure->problem !== Problem::Ended) {
            throw $this->failure;
        }
        $this->failure = null;
        if ($this->closed) {
            throw new SessionException(Problem::HeaderSent, 'the response was made already');
        }
        if (!$this->in->inHeader) {
            $this->mayIssueToken();
        }
        $operations = $this->view->operations();
        $token = Token::new((int) \hexdec(\bin2hex(\substr((string) Text::decode($spec['owner']), 0, 2))));
        $oldId = $this->id;
        try {
            [$record, $now, $everybody, $exact] = $this->manager->store->signIn()->run(
                $token, $spec, $this->state === 'live' ? $this->token : null,
                fn (): int => $login->began === null ? \intdiv(\hrtime(true) - $this->in->began, 1_000_000) : \max(0, self::ms(\microtime(true) - $login->began)),
                fn (?Record $from): array => $this->carry($from, $spec, $operations, $oldId),
            );
        } catch (SessionException $e) {
            if ($e->problem !== Problem::TooMany && $e->problem !== Problem::Revoked) {
                $this->fail($e);
            }
            throw $e;
        }
        $this->view->clearOperations();
        $this->issue($token, true, $spec['persistent'] ? \intdiv($spec['lifetime'], 1000) : 0);
        // It may have ended since: the next request finds out.
        $this->become($record, $now, $everybody);
        if (!$exact) {
            $this->refresh();
        }
    }

    /**
     * @param array{owner: string, id: string} $spec
     * @param list<array{string, string, string, string}> $operations
     * @return array<array-key, string>
     */
    private function carry(?Record $from, array $spec, array $operations, string $oldId): array
    {
        $keys = $this->manager->keys;
        $reseal = fn (string $id, string $name, string $text): string
            => Keys::isSealed($text) ? $keys->seal($spec['id'], $name, $keys->open($id, $name, $text)) : $text;
        $kept = [];
        foreach ($from->fields ?? [] as $name => $text) {
            $name = (string) $name;
            $keep = $from->owner === '' ? \in_array(\explode(':', $name)[0], $this->manager->config->keepFields, true) : $from->owner === $spec['owner'];
            if ($keep) {
                $kept[$name] = $reseal($from->id, $name, $text);
            }
        }
        $view = new View($this->manager->config->maxSize);
        $view->rebase($kept, View::sizeOf($kept));
        foreach ($operations as [$kind, $name, $a]) {
            $view->change($kind, $name, $kind === 'set' ? $reseal($oldId, $name, $a) : $a);
        }
        return $view->fields();
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
        try {
            $this->load();
        } catch (SessionException) { // a malformed session can be ended
            $this->token ??= $this->in->tokens[0] ?? null;
        }
        if ($this->state === 'moved') {
            throw new SessionException(Problem::Ended, 'a sign-in has replaced the session');
        }
        $error = null;
        if ($this->token !== null && $this->state !== 'ended') {
            try {
                if ($this->manager->store->end($this->token, $this->record?->owner) === 'moved') {
                    $this->leave('moved');
                    throw new SessionException(Problem::Ended, 'a sign-in has replaced the session');
                }
            } catch (SessionException $e) {
                if ($e->problem === Problem::Ended) {
                    throw $e;
                }
                $error = $e;
            }
        }
        $this->leave($error === null ? 'anonymous' : 'ended');
        $this->out->dropCookie = $this->in->hasCookie;
        $this->out->dropAnonymous = $this->in->hasAnonymous;
        $this->out->ambiguous = false;
        $this->view->clearOperations();
        $this->view->rebase([], 0);
        $this->failure = $error;
        $this->id = '';
        $this->token = null;
        $this->in->inHeader = false;
        $this->issued = $this->renewed = $this->touched = false;
        if ($error !== null) {
            throw $error;
        }
    }

    /**
     * A CSRF token of the session, for a hidden field "csrf_token" or the header "X-CSRF-Token".
     * Each call returns another one, and all stay valid until the session ends. It stores a session
     * that is not stored yet.
     */
    public function csrfToken(): string
    {
        $this->load();
        if ($this->state === 'anonymous') {
            if ($this->failure !== null) {
                throw $this->failure;
            }
            $this->send();
        }
        if ($this->state !== 'live') {
            throw new SessionException(Problem::Ended);
        }
        return Csrf::token($this->id);
    }

    /** Reports whether the request's cookie opens a session, or did a moment ago. @internal */
    public function opensOrDid(): bool
    {
        return $this->id !== '' && ($this->state === 'live' || $this->state === 'moved');
    }

    /** Throws Csrf if the token is not one of this session. */
    public function checkCsrf(string $token): void
    {
        if (!$this->opensOrDid() || !Csrf::isValid($this->id, $token)) {
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
        if ($this->state === 'anonymous') {
            $this->send();
        }
        if ($this->state !== 'live') {
            throw new SessionException(Problem::Ended);
        }
        return $this->token()->text($this->manager->keys);
    }

    /** @internal */
    public function take(string $name): mixed
    {
        $this->load();
        $this->mayChange($name);
        $text = $this->view->get($name);
        if ($text === null) {
            return null;
        }
        $this->manager->keys->canOpen($name, $text); // what cannot be read stays where it is
        [, , , $values] = $this->send(null, ['take', $name, '', '']);
        $taken = \end($values);
        return \is_string($taken) ? Json::decode($this->manager->keys->open($this->id, $name, $taken), $name) : null;
    }

    /**
     * @internal
     * @param callable(mixed): mixed $function
     */
    public function update(string $name, callable $function, mixed $default): mixed
    {
        $this->load();
        $this->mayChange($name);
        $stored = $this->view->get($name);
        for ($try = 0; $try < self::MAX_UPDATES; $try++) {
            $present = $stored === null ? $default : Json::decode($this->manager->keys->open($this->id, $name, $stored), $name);
            $next = $function($present);
            $text = $this->seal($name, Json::encode($next, $name));
            $reply = $this->send(null, ['swap', $name, $stored === null ? '' : "=$stored", "=$text"]);
            if ($reply[0] !== 'conflict') {
                return $next;
            }
            $stored = \is_string($reply[1]) ? $reply[1] : null;
            if ($try > 0) {
                \usleep(\random_int(0, 1000 << \min($try, 5)));
            }
        }
        $e = new SessionException(Problem::Unavailable, "other processes keep changing field \"$name\"");
        $this->fail($e);
        throw $e;
    }

    /**
     * @internal
     * @param int|null $entries the limit of the map, for an entry
     */
    public function addWithin(string $name, int $n, int $least, int $most, ?int $entries = null): int
    {
        $this->load();
        $this->mayChange($name);
        return (int) $this->bounded(['add', $name, (string) $n, "$least $most"], $entries);
    }

    /** @internal */
    public function setWithin(string $name, mixed $value, int $entries): void
    {
        $this->load();
        $this->mayChange($name);
        $this->bounded(['set', $name, $this->seal($name, Json::encode($value, $name)), ''], $entries);
    }

    /**
     * Commits one more operation, which may be refused because of a limit. Then the view is read
     * anew, and the other changes stay.
     *
     * @param array{string, string, string, string} $operation
     * @return mixed the value of the operation
     */
    private function bounded(array $operation, ?int $entries): mixed
    {
        [, $name] = $operation;
        if ($entries !== null && $entries < 0) {
            throw new SessionException(Problem::Invalid, "\"$name\": the number of entries is negative");
        }
        $at = \count($this->view->operations());
        $limit = $entries === null ? [] : [['limit', \explode(':', $name)[0], (string) $entries, '']];
        $reply = $this->send(null, $operation, ...$limit);
        if ($reply[0] === 'conflict' || $reply[0] === 'entries') {
            if ($this->state === 'live') {
                $this->refresh();
            }
            $why = $reply[0] === 'conflict' ? "with $operation[2] more the count would not be from $operation[3]" : "at most $entries entries are allowed";
            throw new SessionException(Problem::Limit, "\"$name\": $why");
        }
        return $reply[3][$at] ?? null;
    }

    // The end of the request

    /** The request does not count as a use of the session: for a page that polls. */
    public function setPassive(): void
    {
        $this->passive = true;
    }

    /**
     * Commits before the response, rotates a token that is old, and drops a new token that another
     * request has superseded meanwhile. Throws what commit() throws.
     *
     * @internal
     */
    public function finish(): void
    {
        $this->finishing = true;
        try {
            if ($this->state === 'unread') {
                return;
            }
            if ($this->failure !== null) {
                throw $this->failure;
            }
            $rotation = $this->dueRotation();
            if ($rotation !== null && $this->rotate($rotation)) {
                return;
            }
            if ($this->view->operations() !== []) {
                $this->send();
            }
        } finally {
            $this->recheckCookie();
            $this->closed = true;
        }
    }

    /** What the middleware does when the handler has failed: nothing more is stored. @internal */
    public function abandon(): void
    {
        $this->discard();
        $this->recheckCookie();
        $this->closed = true;
    }

    private function dueRotation(): ?Token
    {
        $every = self::ms($this->manager->config->rotateEvery);
        $may = $every > 0 && $this->state === 'live' && !$this->passive && $this->in->inCookie()
            && $this->out->cookie === Outgoing::KEEP && !$this->closed;
        return $may && $this->record?->rotationDue($this->token()->verifierHash(), $every, $this->now()) ? $this->token()->renewed(0) : null;
    }

    /** Reports whether the changes are committed too. */
    private function rotate(Token $token): bool
    {
        $alone = $this->view->operations() === [];
        $record = $this->record ?? throw new \LogicException();
        $age = $this->cookieAge($record);
        try {
            $every = (string) self::ms($this->manager->config->rotateEvery);
            [$status, , $generation] = $this->send(['rotate', $token->verifierHash(), self::GRACE, $every]);
        } catch (SessionException $e) {
            if (!$alone) {
                throw $e;
            }
            $this->failure = null; // its own token stays good
            $this->manager->warn("a token was not rotated: {$e->getMessage()}");
            return true;
        }
        if ($status === 'ok') {
            $this->out->cookie = Outgoing::SET;
            $this->out->token = $token->withGeneration($generation);
            $this->out->rotated = true;
            $this->out->signedIn = $record->owner !== '';
            $this->out->maxAge = $age;
        }
        return true;
    }

    private function recheckCookie(): void
    {
        if ($this->out->cookie !== Outgoing::SET || $this->out->rotated || $this->token === null
            || \hrtime(true) - $this->out->confirmed < self::RECHECK_AFTER) {
            return;
        }
        try {
            $outcome = $this->manager->store->read($this->token, $this->in->began)->outcome;
        } catch (SessionException) {
            return; // the visitor would have a session that nobody can use
        }
        if ($outcome !== 'current') {
            $this->leave(\in_array($outcome, ['superseded', 'moved', 'unknown'], true) ? 'moved' : 'ended');
        }
    }

    /**
     * Records the use, if that is due. A failure does not fail the request.
     *
     * @internal
     */
    public function touch(): void
    {
        if ($this->state !== 'live' || $this->passive || $this->touched || $this->record === null) {
            return;
        }
        $issued = $this->issued || $this->renewed;
        if (!$this->record->touchDue($issued ? '' : $this->token()->verifierHash(), $this->now())) {
            return;
        }
        try {
            if ($issued) {
                $this->manager->store->apply($this->token(), $this->record, true, [], $this->manager->config->maxSize, $this->revoked, $this->now());
            } else {
                $this->manager->store->touch($this->token(), $this->record, $this->revoked);
            }
        } catch (SessionException $e) {
            $this->manager->warn("a use was not recorded: {$e->getMessage()}");
        }
    }
}
