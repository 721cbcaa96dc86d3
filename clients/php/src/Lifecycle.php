<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Sign-in, renewal, rotation and sign-out: what gives the session another token, or ends it.
 *
 * @internal
 */
final class Lifecycle
{
    private const GRACE = '30000'; // milliseconds that a rotated token is accepted

    private readonly Manager $manager;

    public function __construct(private readonly SessionState $state, private readonly Commit $commit)
    {
        $this->manager = $state->manager;
    }

    // Renewal and rotation

    public function renew(): void
    {
        $s = $this->state;
        $s->mayChange(null);
        if ($s->status === 'anonymous') {
            $this->commit->flush(true);
            return;
        }
        $record = $s->record();
        $token = $s->token()->renewed(0);
        $issuedHere = $s->issued && !$s->renewed && $s->out->cookie === Outgoing::SET;
        [, , $generation] = $this->commit->send(['renew', $token->verifierHash(), '', '']);
        $s->issue($token->withGeneration($generation), $record->owner !== '', $this->cookieAge($record));
        $s->renewed = !$issuedHere;
        $record->current = $token->verifierHash();
        $record->unused = true;
        $record->generation = $generation;
    }

    /** The seconds that the cookie of a session lives, or 0 if it goes with the browser. */
    private function cookieAge(Record $record): int
    {
        $persistent = $record->owner === '' ? $this->manager->config->cookie->persistent : $record->persistent;
        return $persistent ? \max(1, \intdiv($record->deadline - $this->state->now(), 1000)) : 0;
    }

    /**
     * Replaces a token that is old, in one step with the changes. Only the browser gets the new
     * token: the request goes on with its own. Reports whether it did, or tried.
     */
    public function rotateIfDue(): bool
    {
        $s = $this->state;
        $every = State::ms($this->manager->config->rotateEvery);
        $may = $every > 0 && $s->status === 'live' && !$s->passive && $s->in->inCookie()
            && $s->out->cookie === Outgoing::KEEP && !$s->closed;
        if (!$may || !$s->record()->rotationDue($s->token()->verifierHash(), $every, $s->now())) {
            return false;
        }
        $record = $s->record();
        $token = $s->token()->renewed(0);
        $alone = $s->view->operations() === [];
        $age = $this->cookieAge($record);
        try {
            [$status, , $generation] = $this->commit->send(['rotate', $token->verifierHash(), self::GRACE, (string) $every]);
        } catch (SessionException $e) {
            if (!$alone) {
                throw $e;
            }
            $s->failure = null; // its own token stays good
            $this->manager->warn("a token was not rotated: {$e->getMessage()}");
            return true;
        }
        if ($status === 'ok') {
            $s->out->cookie = Outgoing::SET;
            $s->out->token = $token->withGeneration($generation);
            $s->out->rotated = true;
            $s->out->signedIn = $record->owner !== '';
            $s->out->maxAge = $age;
        }
        return true;
    }

    // Sign-in

    public function signIn(Login $login): void
    {
        $s = $this->state;
        $spec = $this->manager->signInSpec($login);
        $s->load();
        if ($s->failure !== null && $s->failure->problem !== Problem::Ended) {
            throw $s->failure;
        }
        $s->failure = null;
        if ($s->closed) {
            throw new SessionException(Problem::HeaderSent, 'the response was made already');
        }
        if (!$s->in->inHeader) {
            $s->mayIssueToken();
        }
        $operations = $s->view->operations();
        $token = Token::new((int) \hexdec(Keyspace::bucketOf($spec['owner'])));
        $oldId = $s->id;
        try {
            [$record, $now, $everybody, $exact] = $this->manager->store->signIn()->run(
                $token, $spec, $s->status === 'live' ? $s->token : null,
                fn (): int => $this->age($login),
                fn (?Record $from): array => $this->carry($from, $spec, $operations, $oldId),
            );
        } catch (SessionException $e) {
            if ($e->problem !== Problem::TooMany && $e->problem !== Problem::Revoked) {
                $s->fail($e);
            }
            throw $e;
        }
        $s->view->clearOperations();
        $s->issue($token, true, $spec['persistent'] ? \intdiv($spec['lifetime'], 1000) : 0);
        // It may have ended since: the next request finds out.
        $s->become($record, $now, $everybody);
        if (!$exact) {
            $s->refresh();
        }
    }

    /** How long ago the authentication began, in milliseconds. */
    private function age(Login $login): int
    {
        return $login->began === null
            ? \intdiv(\hrtime(true) - $this->state->in->began, 1_000_000)
            : \max(0, State::ms(\microtime(true) - $login->began));
    }

    /**
     * Returns the fields of the new session: what it keeps of the old one, and the changes of the
     * request.
     *
     * @param array{owner: string, id: string} $spec
     * @param list<array{string, string, string, string}> $operations
     * @return array<array-key, string>
     */
    private function carry(?Record $from, array $spec, array $operations, string $oldId): array
    {
        $keys = $this->manager->keys;
        $config = $this->manager->config;
        $known = \array_flip($config->keepFields) + $config->userFieldKinds();
        $kept = [];
        foreach ($from->fields ?? [] as $name => $text) {
            $name = (string) $name;
            $keep = $from->owner === '' ? isset($known[\explode(':', $name)[0]]) : $from->owner === $spec['owner'];
            if ($keep) {
                $kept[$name] = $keys->reseal($from->id, $spec['id'], $name, $text);
            }
        }
        $view = new View($config->maxSize);
        $view->rebase($kept, View::sizeOf($kept));
        foreach ($operations as [$kind, $name, $a]) {
            $view->change($kind, $name, $kind === 'set' ? $keys->reseal($oldId, $spec['id'], $name, $a) : $a);
        }
        return $view->fields();
    }

    // Sign-out

    public function signOut(): void
    {
        $s = $this->state;
        try {
            $s->load();
        } catch (SessionException) { // a malformed session can be ended
            $s->token ??= $s->in->tokens[0] ?? null;
        }
        if ($s->status === 'moved') {
            throw new SessionException(Problem::Ended, 'a sign-in has replaced the session');
        }
        $error = null;
        if ($s->token !== null && $s->status !== 'ended') {
            try {
                $outcome = $this->manager->store->end($s->token, $s->record?->owner);
            } catch (SessionException $e) {
                $outcome = 'unknown';
                $error = $e;
            }
            if ($outcome === 'moved') {
                $s->leave('moved');
                throw new SessionException(Problem::Ended, 'a sign-in has replaced the session');
            }
        }
        $this->forget($error);
        if ($error !== null) {
            throw $error;
        }
    }

    /** Makes the session that of an unknown visitor. After an error it may still be alive. */
    private function forget(?SessionException $error): void
    {
        $s = $this->state;
        $s->leave($error === null ? 'anonymous' : 'ended');
        $s->out->dropCookie = $s->in->hasCookie;
        $s->out->dropAnonymous = $s->in->hasAnonymous;
        $s->out->ambiguous = false;
        $s->discard();
        $s->failure = $error;
        $s->id = '';
        $s->token = null;
        $s->in->inHeader = false;
        $s->issued = $s->renewed = $s->touched = false;
    }
}
