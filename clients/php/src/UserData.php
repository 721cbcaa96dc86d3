<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The data of a user: fields that are the same in all sessions of the user, such as a cart on two
 * devices. Get it from Session::userData() or Manager::userData().
 *
 * The middleware commits the data after the session: these are two steps. Before the data is
 * changed, the session that opened it is read again. If it has ended, or somebody else has signed
 * in, the commit throws Ended, and the data is unchanged.
 */
final class UserData extends Data
{
    private function __construct(UserState $state, private readonly string $user)
    {
        $this->state = $state;
    }

    /**
     * Reads the data of a user.
     *
     * @internal
     * @param SessionState|null $through the session that opens it; null: a program does
     */
    public static function open(Manager $manager, string $user, string $owner, ?SessionState $through): self
    {
        $data = new self(new UserState($manager, $owner, $through), $user);
        $data->load();
        return $data;
    }

    public function user(): string
    {
        return $this->user;
    }

    // What the session calls

    /** Moves the user's fields from the session to the data. @internal */
    public function join(SessionState $session): void
    {
        (new Join($session, $this->state))->run();
    }

    /** Commits for the middleware. @internal */
    public function finish(): void
    {
        $this->state->finishing = true;
        $this->flush();
    }

    /** Commits before another sign-in. @internal */
    public function close(): void
    {
        try {
            $this->flush();
        } catch (SessionException $e) {
            if ($e->problem !== Problem::Ended) {
                throw $e;
            }
            $this->reset(); // a sign-in is how to go on after an end
        }
    }

    /** Drops the changes that are not committed, and the failure of the last commit. @internal */
    public function reset(): void
    {
        $this->state->discard();
        $this->state->failure = null;
    }

    /** Records the use, if that is due. A failure does not fail the request. @internal */
    public function touch(): void
    {
        if (!$this->state->touchDue()) {
            return;
        }
        try {
            $this->state->manager->store->userData()->touch($this->state->owner);
        } catch (SessionException $e) {
            $this->state->manager->warn("a use of user data was not recorded: {$e->getMessage()}");
        }
    }
}
