<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/** Applies one Config to one Store. Make one for each process or request. */
final class Manager
{
    /** @internal */
    public readonly Keys $keys;

    /** @param \Closure(string): void|null $log gets warnings, never a token. Default: error_log */
    public function __construct(
        /** @internal */
        public readonly Store $store,
        public readonly Config $config = new Config(),
        private readonly ?\Closure $log = null,
    ) {
        $this->keys = new Keys($config->keys, $config->userKey, $config->unsignedUntil);
    }

    /** @internal */
    public function warn(string $message): void
    {
        $this->log === null ? \error_log("session: $message") : ($this->log)($message);
    }

    /**
     * Begins a request: refuses what another site has caused, or what lacks a CSRF token. It does
     * not read the session, unless Config::$csrf requires it.
     *
     * @internal
     */
    public function begin(Incoming $in): Session
    {
        $in->parse($this->config, $this->keys);
        return new Session($this, $in);
    }

    /** @internal */
    public function check(Incoming $in, Session $session): void
    {
        if (!$in->inCookie()) {
            return;
        }
        $in->checkOrigin($this->config->trustedOrigins);
        if (!$this->config->csrf || $in->isSafe()) {
            return;
        }
        $session->load();
        if ($session->opensOrDid()) {
            $session->checkCsrf($in->csrfToken());
        }
    }

    /**
     * Runs a page of plain PHP, without a framework: it buffers the output, commits before the
     * first byte, and sends the cookie. A page may call exit. If it throws, what it changed and did
     * not commit is dropped. It answers a SessionException with its status; other exceptions go on.
     *
     * @param callable(Session): void $page
     */
    public function serve(callable $page): void
    {
        $in = Incoming::fromGlobals();
        $session = $this->begin($in);
        $level = \ob_get_level();
        \ob_start();
        $returned = false;
        \register_shutdown_function(function () use ($in, $session, $level, &$returned): void {
            if ($returned) {
                return;
            }
            if (self::endsWithFatalError()) {
                $session->abandon();
            }
            $this->answer($in, $session, $level, null); // the page has called exit
        });
        try {
            $this->answer($in, $session, $level, $page);
        } finally {
            $returned = true;
        }
    }

    /** Reports whether PHP ends because of an error that no code can catch. @internal */
    public static function endsWithFatalError(): bool
    {
        $fatal = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR;
        return ((\error_get_last()['type'] ?? 0) & $fatal) !== 0;
    }

    /**
     * @param int $level how many output buffers there were before the one of the page
     * @param callable(Session): void|null $page null: it has run
     */
    private function answer(Incoming $in, Session $session, int $level, ?callable $page): void
    {
        try {
            if ($page !== null) {
                $this->check($in, $session);
                $page($session);
            }
            $session->finish();
            $this->sendHeaders($in, $session);
            while (\ob_get_level() > $level) {
                \ob_end_flush();
            }
        } catch (\Throwable $e) {
            while (\ob_get_level() > $level) {
                \ob_end_clean();
            }
            $session->abandon();
            $this->sendHeaders($in, $session);
            if (!$e instanceof SessionException) {
                throw $e;
            }
            $this->sendError($e);
        }
        $session->touch();
    }

    /** @internal */
    public function sendHeaders(Incoming $in, Session $session): void
    {
        $list = [];
        foreach (\headers_list() as $line) {
            [$name, $value] = \explode(':', $line, 2);
            $list[\strtolower($name)] = \trim($value);
        }
        foreach ($this->headers($in, $session, $list['vary'] ?? '', isset($list['cache-control'])) as $name => $values) {
            foreach ($values as $value) {
                \header("$name: $value", $name !== 'Set-Cookie' && $name !== 'Vary');
            }
        }
        if ($session->out->cookie === Outgoing::SET) {
            \header_remove('Cdn-Cache-Control');
            \header_remove('Surrogate-Control');
        }
    }

    /** @internal */
    public function sendError(SessionException $e): void
    {
        $this->warn("request failed: {$e->getMessage()}");
        \http_response_code($e->getStatusCode());
        \header('Content-Type: text/plain; charset=utf-8');
        foreach ($e->getHeaders() as $name => $value) {
            \header("$name: $value");
        }
        echo $e->problem->message(), "\n";
    }

    /**
     * What the response has to say: the cookie, and how it may be cached.
     *
     * @internal
     * @return array<string, list<string>>
     */
    public function headers(Incoming $in, Session $session, string $vary, bool $hasCacheControl): array
    {
        if (!$session->out->used) {
            return [];
        }
        $headers = [];
        $vary = $vary === '' ? [] : \array_map(\trim(...), \explode(',', \strtolower($vary)));
        foreach ($this->config->bearer ? ['Cookie', 'Authorization'] : ['Cookie'] as $name) {
            if (!\in_array('*', $vary, true) && !\in_array(\strtolower($name), $vary, true)) {
                $headers['Vary'][] = $name;
            }
        }
        $lines = $session->out->lines($this->config->cookie, $this->keys, $in);
        if ($lines !== [] || $session->out->cookie === Outgoing::HANDED_OUT) {
            $headers['Set-Cookie'] = $lines;
            $headers['Cache-Control'] = ['no-store']; // a shared cache must not keep the token
        } elseif (!$hasCacheControl) {
            $headers['Cache-Control'] = ['private, no-cache'];
        }
        return $headers;
    }

    /**
     * Who is signed in.
     *
     * @internal
     */
    public function principal(Record $record, string $handle): Principal
    {
        $principal = $this->open($record);
        if (!\hash_equals($this->keys->owner($principal->user), $record->owner)) {
            throw new SessionException(
                Problem::Invalid,
                "session $handle: Config::\$userKey is not the one with which its user signed in: put that one back, or call revokeAll",
            );
        }
        return $principal;
    }

    private function open(Record $record): Principal
    {
        try {
            return Principal::decode($this->keys->open($record->id, '@i', $record->info));
        } catch (FormatException $e) {
            throw new SessionException(Problem::Sealed, "@i opens, but does not describe a user: {$e->getMessage()}", $e);
        }
    }

    /**
     * @internal
     * @return array{owner: string, id: string, info: string, level: int, persistent: bool, idle:
     *     int, lifetime: int, max: int, refuse: bool, ago: int}
     */
    public function signInSpec(Login $login): array
    {
        $info = $login->principal()->encode();
        $ms = fn (float $seconds): int => (int) \round($seconds * 1000);
        $c = $this->config;
        $now = \microtime(true);
        $wrong = match (true) {
            $login->remember !== 0.0 && ($login->remember < 0.001 || $login->remember > $c->maxRemember)
                => 'remember is 1 ms to Config::$maxRemember, or 0',
            $login->lifetime !== 0.0 && ($login->lifetime < 0.001 || $login->lifetime > $c->lifetime)
                => 'lifetime is 1 ms to Config::$lifetime, or 0',
            $login->remember !== 0.0 && $login->lifetime !== 0.0 => 'it has both remember and lifetime',
            $login->began !== null && $now - $login->began > 86400 => 'began is more than a day ago',
            $login->authenticated !== null && ($now - $login->authenticated > 315_360_000 || $login->authenticated - $now > 60)
                => 'authenticated is more than 10 years ago, or in the future',
            default => null,
        };
        if ($wrong !== null) {
            throw new SessionException(Problem::Invalid, "Login: $wrong");
        }
        $lifetime = $login->remember ?: ($login->lifetime ?: $c->lifetime);
        $id = Text::encode(\random_bytes(16));
        return [
            'owner' => $this->keys->owner($login->user), 'id' => $id,
            'info' => $c->seal ? $this->keys->seal($id, '@i', $info) : $info,
            'level' => $login->level, 'persistent' => $login->remember > 0 || $c->cookie->persistent,
            'idle' => $ms($login->remember ?: \min($c->idleTimeout, $lifetime)), 'lifetime' => $ms($lifetime),
            'max' => $c->maxPerUser, 'refuse' => $c->refuseExtra,
            'ago' => $login->authenticated === null ? 0 : \max(0, $ms($now - $login->authenticated)),
        ];
    }

    // Users. All of these talk to the store.

    /**
     * The live sessions of a user, the newest first. It reads a page of 100 at a time.
     *
     * @return \Generator<int, Info>
     */
    public function sessions(string $user): \Generator
    {
        $this->checkUser($user);
        foreach ($this->store->users()->sessions($this->keys->owner($user)) as $handle => $record) {
            try {
                $principal = $this->open($record);
            } catch (SessionException $e) {
                $this->warn("session $handle is listed without its sealed parts: {$e->getMessage()}");
                $principal = new Principal($user);
            }
            yield Info::of($handle, $record, $principal);
        }
    }

    /**
     * Ends the session of the user with this handle. Throws NotFound if the user has none, even if
     * another has.
     */
    public function revoke(string $user, string $handle): void
    {
        $owner = $this->keys->owner($user);
        if ($user === '' || !self::isHandle($handle) || \hexdec(\substr($handle, 0, 4)) !== \hexdec(\bin2hex(\substr((string) Text::decode($owner), 0, 2)))) {
            throw new SessionException(Problem::NotFound);
        }
        if ($this->store->users()->endNamed($owner, [$handle]) === []) {
            throw new SessionException(Problem::NotFound);
        }
    }

    /**
     * Ends all sessions of the user in one atomic step, except those with these handles, at most
     * 100. A sign-in that began before fails. It returns how many sessions ended.
     *
     * @param list<string> $keep
     */
    public function revokeUser(string $user, array $keep = []): int
    {
        $this->checkUser($user);
        foreach ($keep as $handle) {
            if (!self::isHandle($handle)) {
                // A mistyped handle must not end the session that it was meant to keep.
                throw new SessionException(Problem::Invalid, "\"$handle\" is no handle");
            }
        }
        if (\count($keep) > 100) {
            throw new SessionException(Problem::Invalid, 'at most 100 handles to keep');
        }
        $longest = (int) (\max($this->config->lifetime, $this->config->maxRemember) * 1000);
        return \count($this->store->users()->endAllOf($this->keys->owner($user), $keep, $longest));
    }

    /** Ends every session in the store: for an incident. Call it again after an error. */
    public function revokeAll(): void
    {
        $this->store->users()->endEverybody();
    }

    /**
     * Opens the data of a user for a program that acts without a session, such as a worker. Its
     * changes are stored by commit(). See Session::userData().
     */
    public function userData(string $user): UserData
    {
        $this->checkUser($user);
        return UserData::open($this, $user, $this->keys->owner($user), null);
    }

    /**
     * Ends all sessions of the user, as revokeUser() does, and then empties the data of the user.
     * It returns how many sessions ended. After an error call it again. A request that found its
     * session alive before may still store a change a moment later.
     */
    public function deleteUser(string $user): int
    {
        $ended = $this->revokeUser($user);
        $this->store->userData()->clear($this->keys->owner($user), $this->config->maxSize);
        return $ended;
    }

    private function checkUser(string $user): void
    {
        if ($user === '') {
            throw new SessionException(Problem::Invalid, 'the user is empty');
        }
    }

    private static function isHandle(string $handle): bool
    {
        return \preg_match('/\A[0-9a-f]{4}-(.{22})\z/s', $handle, $m) === 1 && Text::isHash($m[1]);
    }
}
