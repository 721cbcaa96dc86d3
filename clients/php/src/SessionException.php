<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Every error of this package. Test for its problem with is(). The text of getMessage() is for the
 * log: it names the field and the cause. Show clients $problem->message() only.
 */
final class SessionException extends \RuntimeException
{
    public function __construct(public readonly Problem $problem, string $detail = '', ?\Throwable $cause = null)
    {
        parent::__construct('session: ' . $problem->name . ($detail === '' ? '' : ": $detail"), 0, $cause);
    }

    /** An outcome that is unknown is also an unavailable store. */
    public function is(Problem $problem): bool
    {
        return $this->problem === $problem
            || $problem === Problem::Unavailable && $this->problem === Problem::UnknownOutcome;
    }

    /** The HTTP status of the response to this error. Symfony's and other error handlers use it. */
    public function getStatusCode(): int
    {
        return $this->problem->status();
    }

    /**
     * The headers of the response to this error. A change whose outcome is unknown must not be
     * repeated without a look, so it has no Retry-After.
     *
     * @return array<string, string>
     */
    public function getHeaders(): array
    {
        return match (true) {
            $this->problem === Problem::Unavailable => ['Retry-After' => '1'],
            $this->problem === Problem::NotFresh => [
                'WWW-Authenticate' => 'Bearer realm="session", error="insufficient_user_authentication"',
            ],
            $this->problem->status() === 401 => ['WWW-Authenticate' => 'Bearer realm="session"'],
            default => [],
        };
    }
}
