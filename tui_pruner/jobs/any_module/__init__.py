"""Jobs on any module of the user, by functions of the user: figures of it, and the stages that it goes through."""
