<?php

declare(strict_types=1);

namespace Coatcheck\Session;

use Psr\Http\Message\ServerRequestInterface;

/**
 * What a session needs of a request.
 *
 * @internal
 */
final class Incoming
{
    private const MAX_TOKENS = 4;

    /** @var list<Token> of the cookies, in the order in which they are tried */
    public array $tokens = [];
    /** How many of the tokens came under the same name as the first */
    public int $twins = 0;
    public bool $inHeader = false;
    public bool $ambiguous = false;
    public bool $hasCookie = false;
    public bool $hasAnonymous = false;

    private readonly int $began;

    /**
     * @param list<string> $cookies the lines of the header Cookie
     * @param list<string> $authorization the lines of the header Authorization
     * @param float|null $at when the request began, in seconds since 1970
     */
    private function __construct(
        private readonly string $method,
        private readonly array $cookies,
        private readonly array $authorization,
        private readonly string $fetchSite,
        private readonly string $origin,
        private readonly string $host,
        private readonly string $csrfHeader,
        private readonly \Closure $form,
        ?float $at,
    ) {
        $this->began = hrtime(true) - (int) (max(0, $at === null ? 0 : microtime(true) - $at) * 1e9);
    }

    public static function fromPsr(ServerRequestInterface $r): self
    {
        $uri = $r->getUri();
        return new self(
            $r->getMethod(), array_values($r->getHeader('Cookie')), array_values($r->getHeader('Authorization')),
            $r->getHeaderLine('Sec-Fetch-Site'), $r->getHeaderLine('Origin'),
            $r->getHeaderLine('Host') ?: $uri->getAuthority(), $r->getHeaderLine(Csrf::HEADER),
            function () use ($r): mixed {
                $body = $r->getParsedBody();
                return is_array($body) ? $body[Csrf::FIELD] ?? null : null;
            },
            self::time($r->getServerParams()),
        );
    }

    /** The request of this process, as PHP describes it in $_SERVER and $_POST. */
    public static function fromGlobals(): self
    {
        $get = fn (string $name): string => is_string($_SERVER[$name] ?? null) ? $_SERVER[$name] : '';
        $authorization = $get('HTTP_AUTHORIZATION') ?: $get('REDIRECT_HTTP_AUTHORIZATION');
        return new self(
            $get('REQUEST_METHOD') ?: 'GET', [$get('HTTP_COOKIE')], [$authorization],
            $get('HTTP_SEC_FETCH_SITE'), $get('HTTP_ORIGIN'), $get('HTTP_HOST'), $get('HTTP_X_CSRF_TOKEN'),
            fn (): mixed => $_POST[Csrf::FIELD] ?? null, PHP_SAPI === 'cli' ? null : self::time($_SERVER),
        );
    }

    /** A request with one token, or none. For tests and the step program. */
    public static function withToken(?string $token, string $cookie): self
    {
        return new self('GET', $token === null ? [] : ["$cookie=$token"], [], '', '', '', '', fn (): mixed => null, null);
    }

    /** @param array<array-key, mixed> $server */
    private static function time(array $server): ?float
    {
        $at = $server['REQUEST_TIME_FLOAT'] ?? null;
        return is_float($at) || is_int($at) ? (float) $at : null;
    }

    /** How long ago the request began, in nanoseconds. */
    public function age(): int
    {
        return hrtime(true) - $this->began;
    }

    /** Takes the tokens from the headers. A text that is no token is ignored, and never adopted. */
    public function parse(Config $config, Keys $keys): void
    {
        if ($config->bearer) {
            foreach ($this->authorization as $line) {
                if (preg_match('/\ABearer +(\S+)\s*\z/i', $line, $m) === 1 && ($token = Token::parse($m[1], $keys)) instanceof Token) {
                    $this->ambiguous = $this->ambiguous || $this->tokens !== [] && !$this->tokens[0]->equals($token);
                    $this->tokens = [$token];
                    $this->inHeader = true;
                }
            }
        }
        $signedIn = $this->cookieTokens($config->cookie->name, $keys, $this->hasCookie);
        $anonymous = $this->cookieTokens($config->cookie->name . Cookie::ANONYMOUS, $keys, $this->hasAnonymous);
        foreach ($signedIn as $token) {
            $this->add($token);
        }
        $this->twins = count($this->tokens);
        foreach ($anonymous as $token) {
            $this->add($token);
        }
        if ($signedIn === []) {
            $this->twins = count($this->tokens);
        }
    }

    /** @return list<Token> */
    private function cookieTokens(string $name, Keys $keys, bool &$has): array
    {
        $tokens = [];
        foreach (explode(';', implode(';', $this->cookies)) as $part) {
            // Trim no other space: for browsers, a name that begins with one has no "__Host-"
            // prefix.
            $pair = explode('=', trim($part, " \t"), 2);
            if ($pair[0] !== $name || !isset($pair[1])) {
                continue;
            }
            $has = true;
            $text = preg_match('/\A"(.*)"\z/s', $pair[1], $m) === 1 ? $m[1] : $pair[1];
            $token = strlen($text) <= 80 ? Token::parse($text, $keys) : null;
            if ($token instanceof Token) {
                $tokens[] = $token;
            }
        }
        return $tokens;
    }

    private function add(Token $token): void
    {
        foreach ($this->tokens as $i => $have) {
            if ($have->equals($token)) {
                return;
            }
            // The older one was left behind under another scope of the cookie.
            if (!$this->inHeader && $have->sameSession($token) && $have->generation !== $token->generation) {
                $this->tokens[$i] = $have->generation < $token->generation ? $token : $have;
                return;
            }
        }
        if ($this->inHeader || count($this->tokens) === self::MAX_TOKENS) {
            $this->ambiguous = true;
        } else {
            $this->tokens[] = $token;
        }
    }

    /** Reports whether the browser sends the token by itself. */
    public function inCookie(): bool
    {
        return ($this->hasCookie || $this->hasAnonymous) && !$this->inHeader;
    }

    public function isSafe(): bool
    {
        return in_array(strtoupper($this->method), ['GET', 'HEAD', 'OPTIONS', 'TRACE'], true);
    }

    /**
     * Refuses an unsafe request that another site has caused.
     * @param list<string> $trusted origins
     */
    public function checkOrigin(array $trusted): void
    {
        $same = in_array($this->fetchSite, ['same-origin', 'none'], true);
        if ($this->isSafe() || $same || $this->fetchSite === '' && $this->origin === '') {
            return;
        }
        $host = preg_replace('~\A[a-z][a-z0-9+.-]*://~i', '', $this->origin);
        if ($this->fetchSite === '' && $this->host !== '' && $host === $this->host || in_array($this->origin, $trusted, true)) {
            return;
        }
        throw new SessionException(Problem::CrossOrigin, "Origin \"$this->origin\", Sec-Fetch-Site \"$this->fetchSite\"");
    }

    /** The CSRF token of the header or of the form, or ''. */
    public function csrfToken(): string
    {
        $token = $this->csrfHeader !== '' ? $this->csrfHeader : ($this->form)();
        return is_string($token) ? $token : '';
    }
}
