<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * What the response has to say about the session.
 *
 * @internal
 */
final class Outgoing
{
    public const KEEP = 'keep';
    public const SET = 'set';
    public const HANDED_OUT = 'handed out'; // the application gives the client the token itself

    public string $cookie = self::KEEP;
    public ?Token $token = null;
    public bool $signedIn = false;
    public int $maxAge = 0;
    /** When the store last accepted the new token, by hrtime. */
    public int $confirmed = 0;
    /** The request goes on with its own token: only the browser gets the new one. */
    public bool $rotated = false;

    public bool $dropCookie = false;
    public bool $dropAnonymous = false;
    public bool $ambiguous = false;
    /** The response depends on the session. */
    public bool $used = false;

    /** Drops a new token: its session has ended, or has a newer one. */
    public function withhold(): void
    {
        if ($this->cookie === self::SET) {
            $this->cookie = self::KEEP;
            $this->rotated = false;
        }
    }

    /**
     * The Set-Cookie lines.
     *
     * @return list<string>
     */
    public function lines(Cookie $cookie, Keys $keys, Incoming $in): array
    {
        $anonymous = $cookie->name . Cookie::ANONYMOUS;
        $lines = [];
        $dropCookie = $this->dropCookie;
        $dropAnonymous = $this->dropAnonymous;
        if ($this->cookie === self::SET && $this->token !== null) {
            $text = $this->token->text($keys);
            $lines[] = $cookie->line($this->signedIn ? $cookie->name : $anonymous, $text, $this->maxAge);
            $dropCookie = $dropCookie && !$this->signedIn;
            $dropAnonymous = $this->signedIn && $in->hasAnonymous;
        }
        if ($dropCookie) {
            $lines[] = $cookie->line($cookie->name, '');
        }
        if ($dropAnonymous) {
            $lines[] = $cookie->line($anonymous, '');
        }
        if ($this->ambiguous) { // in each scope that they may have from an earlier configuration
            foreach (\array_unique([$cookie->domain, '']) as $domain) {
                foreach (\array_unique([$cookie->path, '/']) as $path) {
                    $scope = new Cookie('__Secure-x', $path, $domain, $cookie->sameSite);
                    foreach ([$cookie->name, $anonymous] as $name) {
                        $line = $scope->line($name, '');
                        $lines[] = $cookie->insecure ? \str_replace('; Secure', '', $line) : $line;
                    }
                }
            }
        }
        return $lines;
    }
}
