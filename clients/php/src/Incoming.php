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

    /** When the request began, by hrtime. */
    public readonly int $began;

    /**
     * @param ServerRequestInterface|null $request null: $server describes the request
     * @param array<array-key, mixed> $server as $_SERVER
     */
    private function __construct(private readonly ?ServerRequestInterface $request, private readonly array $server, bool $timed)
    {
        $at = $timed ? $server['REQUEST_TIME_FLOAT'] ?? null : null;
        $this->began = \hrtime(true) - (\is_float($at) || \is_int($at) ? (int) (\max(0, \microtime(true) - $at) * 1e9) : 0);
    }

    public static function fromPsr(ServerRequestInterface $request): self
    {
        return new self($request, $request->getServerParams(), true);
    }

    /** The request of this process, as PHP describes it in $_SERVER and $_POST. */
    public static function fromGlobals(): self
    {
        return new self(null, $_SERVER, PHP_SAPI !== 'cli');
    }

    /** A request with one token, or none. For tests and the step program. */
    public static function withToken(?string $token, string $cookie): self
    {
        return new self(null, $token === null ? [] : ['HTTP_COOKIE' => "$cookie=$token"], false);
    }

    private function header(string $name): string
    {
        if ($this->request !== null) {
            return $this->request->getHeaderLine($name);
        }
        $value = $this->server['HTTP_' . \strtoupper(\strtr($name, '-', '_'))] ?? '';
        return \is_string($value) ? $value : '';
    }

    /** @return array<string> the lines of the header Authorization */
    private function authorization(): array
    {
        if ($this->request !== null) {
            return $this->request->getHeader('Authorization');
        }
        $redirected = $this->server['REDIRECT_HTTP_AUTHORIZATION'] ?? '';
        return [$this->header('Authorization') ?: (\is_string($redirected) ? $redirected : '')];
    }

    /** Takes the tokens from the headers. A text that is no token is ignored, and never adopted. */
    public function parse(Config $config, Keys $keys): void
    {
        if ($config->bearer) {
            foreach ($this->authorization() as $line) {
                if (\preg_match('/\ABearer +(\S+)\s*\z/i', $line, $m) === 1 && ($token = Token::parse($m[1], $keys)) instanceof Token) {
                    $this->ambiguous = $this->ambiguous || $this->tokens !== [] && !$this->tokens[0]->equals($token);
                    $this->tokens = [$token];
                    $this->inHeader = true;
                }
            }
        }
        $cookies = $this->request === null ? $this->header('Cookie') : \implode(';', $this->request->getHeader('Cookie'));
        if (!\str_contains($cookies, $config->cookie->name)) {
            return;
        }
        $signedIn = $this->cookieTokens($cookies, $config->cookie->name, $keys, $this->hasCookie);
        $anonymous = $this->cookieTokens($cookies, $config->cookie->name . Cookie::ANONYMOUS, $keys, $this->hasAnonymous);
        foreach ($signedIn as $token) {
            $this->add($token);
        }
        $this->twins = \count($this->tokens);
        foreach ($anonymous as $token) {
            $this->add($token);
        }
        if ($signedIn === []) {
            $this->twins = \count($this->tokens);
        }
    }

    /** @return list<Token> */
    private function cookieTokens(string $cookies, string $name, Keys $keys, bool &$has): array
    {
        $tokens = [];
        if (!\str_contains($cookies, "$name=")) {
            return $tokens;
        }
        foreach (\explode(';', $cookies) as $part) {
            // Trim no other space: for browsers, a name that begins with one has no "__Host-"
            // prefix.
            $part = \trim($part, " \t");
            if (!\str_starts_with($part, "$name=")) {
                continue;
            }
            $has = true;
            $text = \substr($part, \strlen($name) + 1);
            if (\strlen($text) > 1 && $text[0] === '"' && $text[-1] === '"') {
                $text = \substr($text, 1, -1);
            }
            $token = \strlen($text) <= 80 ? Token::parse($text, $keys) : null;
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
        if ($this->inHeader || \count($this->tokens) === self::MAX_TOKENS) {
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

    private function method(): string
    {
        return $this->request === null ? (string) (($this->server['REQUEST_METHOD'] ?? '') ?: 'GET') : $this->request->getMethod();
    }

    public function isSafe(): bool
    {
        return \in_array($this->method(), ['GET', 'HEAD', 'OPTIONS', 'TRACE'], true);
    }

    /**
     * Refuses an unsafe request that another site has caused. A WebSocket handshake counts as
     * unsafe: browsers let every site open one, with the cookie. So does TRACE, as in Go.
     *
     * @param list<string> $trusted origins
     */
    public function checkOrigin(array $trusted): void
    {
        if ($this->isSafe() && $this->method() !== 'TRACE' && \strcasecmp($this->header('Upgrade'), 'websocket') !== 0) {
            return;
        }
        $site = $this->header('Sec-Fetch-Site');
        $origin = $this->header('Origin');
        // Several lines are joined by commas. A proxy may have added one.
        if (!\str_contains($site . $origin, ',')) {
            if ($site === 'same-origin' || $site === 'none' || $site === '' && $origin === '') {
                return;
            }
            $host = $this->header('Host') ?: (string) $this->request?->getUri()->getAuthority();
            $same = \preg_match('~\A[a-z][a-z0-9+.-]*://(.+)\z~is', $origin, $m) === 1 && $m[1] === $host;
            if ($site === '' && $same || \in_array($origin, $trusted, true)) {
                return;
            }
        }
        throw new SessionException(Problem::CrossOrigin, "Origin \"$origin\", Sec-Fetch-Site \"$site\"");
    }

    /** The CSRF token of the header or of the form, or ''. */
    public function csrfToken(): string
    {
        $token = $this->header(Csrf::HEADER);
        if ($token === '') {
            $form = $this->request === null ? $_POST : $this->request->getParsedBody();
            $token = \is_array($form) ? $form[Csrf::FIELD] ?? '' : '';
        }
        return \is_string($token) ? $token : '';
    }
}
